"""Files that a training leaves: weights as safetensors, each with the key of the evaluation that made it."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from space.errors import DataError


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that tell weights from others."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights {path} cannot be read ({error}); train the network again") from error


def write_weights(
    weights: Mapping[str, Tensor], path: Path, *, evaluation_key: str | None = None, temperature: float | None = None
) -> None:
    """Write a state dict, with the key of the evaluation that made it; a reader sees the whole file or none.

    `temperature` is what the network's logits are to be divided by for probabilities, where that was found out.
    """
    words = {"evaluation": evaluation_key, "temperature": None if temperature is None else repr(temperature)}
    write_tensors(weights, path, {name: word for name, word in words.items() if word is not None} or None)


def temperature_of_weights(path: Path) -> float | None:
    """What stands there of the temperature, None where nothing does, or no such one."""
    try:
        found = float(metadata_of(path).get("temperature", ""))
    except ValueError:
        return None
    return found if 0 < found < math.inf else None


def write_folds(by_fold: Sequence[Mapping[str, Tensor]], path: Path, *, evaluation_key: str) -> None:
    """Write the state dicts of one network trained without each of several folds."""
    tensors = {
        f"{fold}/{name}": tensor.contiguous()
        for fold, weights in enumerate(by_fold)
        for name, tensor in weights.items()
    }
    write_tensors(tensors, path, {"evaluation": evaluation_key})


def read_fold(path: Path, fold: int, evaluation_key: str | None) -> dict[str, Tensor]:
    """The state dict of the network that was trained without a fold.

    Raises:
        DataError: the file is missing or damaged, of another evaluation, or has no such fold.
    """
    if (made_by := evaluation_of_weights(path)) != evaluation_key:
        raise DataError(f"weights {path} are those of {made_by or 'nothing'}, not {evaluation_key}; restore them")
    try:
        with safe_open(path, framework="pt") as opened:
            mine = [name for name in opened.keys() if name.startswith(f"{fold}/")]  # noqa: SIM118 - it is no dictionary
            found = {name.partition("/")[2]: opened.get_tensor(name) for name in mine}
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights {path} cannot be read ({error}); train the network again") from error
    if not found:
        raise DataError(f"weights {path} have none of fold {fold}; train the network again")
    return found


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """Write tensors and words about them; a reader sees the whole file or none."""
    write_whole(path, save(dict(tensors), metadata=metadata))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and its folder if need be; a reader sees all of it, or what was there before.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a record of it must not be ahead of it after a power cut
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def metadata_of(path: Path) -> dict[str, str]:
    """The words in a file of tensors; none where there is no such file, or a damaged one."""
    try:
        with safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def evaluation_of_weights(path: Path) -> str | None:
    """The key of the evaluation that wrote a file of weights, or None where there is no such file or key."""
    return metadata_of(path).get("evaluation")
