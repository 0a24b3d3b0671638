"""The commands of `mobilenas weights`: inspect, convert."""

from pathlib import Path

import yaml
from safetensors.torch import save

from search.begun import begin_with
from search.run_folder import PREPROCESS, SPEC, WEIGHTS
from service.terminal.console import say, tell
from space.cost import cost_of
from space.errors import RunError
from space.formats import write_spec
from space.paths import expanded
from trainer.pretrained.dialects import Dialect, epsilon_in, translated
from trainer.training.inherit import with_epsilon
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
    arch, weights = found.architecture, found.weights
    if to != "mobilenas":  # whose epsilon no file holds
        weights = dict(with_epsilon(weights, arch.batch_norm_epsilon, epsilon_in(arch, to)))
    tensors = translated(weights, arch, to)
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})
    if to != "mobilenas":
        write_whole(out, content)
        say(f"{len(tensors)} tensors: {out}")
        return
    write_whole(out / WEIGHTS, content)
    write_whole(out / SPEC, write_spec(arch, "spec").encode())
    if found.preprocess is not None:
        write_whole(out / PREPROCESS, found.preprocess.to_json().encode())
    say(f"{len(tensors)} tensors, and their spec: {out}")
