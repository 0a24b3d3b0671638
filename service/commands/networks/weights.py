"""The commands of `mobilenas weights`: inspect, convert."""

from pathlib import Path

import yaml
from safetensors.torch import save

from search.run_folder import PREPROCESS, SPEC, WEIGHTS
from search.trainings.begun import begin_with
from service.terminal.console import say, tell
from space.cost import cost_of
from space.errors import RunError
from space.formats import write_spec
from space.paths import expanded
from trainer.pretrained.dialects import Dialect, epsilon_in, translated
from trainer.pretrained.published import Pretrained
from trainer.training.networks import Weights
from trainer.training.weight_files import write_whole


def inspect(named: str, epsilon: float | None) -> None:
    """The command `weights inspect`: all that is known of them, as YAML."""
    found = begin_with(named, epsilon=epsilon, tell=tell)
    arch, preprocess = found.architecture, found.preprocess
    content = {
        "network": found.network or f"architecture {arch.arch_id}",
        "width": found.width,
        "named_as_by": found.dialect,
        "parameters": cost_of(arch).params,
        "tensors": len(found.weights),
        "classes": arch.num_classes,
        "channels": arch.in_channels,
        "batch_norm_epsilon": arch.batch_norm_epsilon,
        "preprocessing": None
        if preprocess is None
        else {
            "resize": preprocess.resize,
            "crop": preprocess.crop,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
        },
    }
    say(yaml.safe_dump({key: each for key, each in content.items() if each is not None}, sort_keys=False).rstrip())


def convert(named: str, out: Path, to: Dialect, epsilon: float | None) -> None:
    """The command `weights convert`: a file as another project names its tensors, ours in a folder with its spec."""
    found, out = begin_with(named, epsilon=epsilon, tell=tell), expanded(out)
    if out.exists():
        raise RunError(f"{out} exists already; choose another path")
    tensors = translated(_with_epsilon_of(found, to), found.architecture, to)
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})
    if to != "mobilenas":
        write_whole(out, content)
        say(f"{len(tensors)} tensors: {out}")
        return
    write_whole(out / WEIGHTS, content)
    write_whole(out / SPEC, write_spec(found.architecture, "spec").encode())
    if found.preprocess is not None:
        write_whole(out / PREPROCESS, found.preprocess.to_json().encode())
    say(f"{len(tensors)} tensors, and their spec: {out}")


def _with_epsilon_of(found: Pretrained, to: Dialect) -> Weights:
    """The same for BatchNorms of a project's epsilon, which no file holds: the variances make up for it.

    Raises:
        RunError: a variance is too small for that.
    """
    arch = found.architecture
    other = epsilon_in(arch, to) - arch.batch_norm_epsilon if to != "mobilenas" else 0.0
    weights = {name: each - other if name.endswith("running_var") else each for name, each in found.weights.items()}
    if (least := min(float(each.min()) for name, each in weights.items() if name.endswith("running_var"))) < 0:
        raise RunError(
            f"BatchNorm's epsilon is {arch.batch_norm_epsilon:g} here and {epsilon_in(arch, to):g} in {to}: to make up "
            f"for it a variance would become {least:g}; use the ONNX file, or model.py"
        )
    return weights
