"""A model.py that needs torch alone: the template beside this file with the architecture filled in."""

from typing import Any

from space.arch import Architecture
from space.keys import StageBlockKey, named_keys

_BEGIN, _END = "# begin of the architecture\n", "# end of the architecture\n"


def write(arch: Architecture) -> str:
    """The content of the file; every architecture can be expressed."""
    from importlib.resources import files  # as in space.preset

    template = files("space.formats").joinpath("model_template.py").read_text(encoding="utf-8")
    before, rest = template.split(_BEGIN)
    _, after = rest.split(_END)
    return before + _architecture(arch) + after


def _architecture(arch: Architecture) -> str:
    stem, head = arch.stem, arch.head
    rows = [_row(name, key) for name, key in named_keys(arch).items() if isinstance(key, StageBlockKey)]
    stem_row = {"channels": stem.out_channels, "stride": stem.stride, "activation": stem.activation}
    head_row = {
        "inputs": arch.stages[-1].out_channels,
        "conv": head.conv_channels,
        "hidden": head.hidden_channels,
        "activation": head.activation,
        "hidden_bias": head.hidden_bias,
    }
    lines = [
        f"# Architecture {arch.arch_id}.",
        f"RESOLUTION = {arch.resolution}",
        f"IN_CHANNELS = {arch.in_channels}",
        f"NUM_CLASSES = {arch.num_classes}",
        f"STEM = {_call(stem_row)}",
        "BLOCKS = [",
        *(f"    {_call(row)}," for row in rows),
        "]",
        f"HEAD = {_call(head_row)}",
        f"BATCH_NORM_EPSILON = {arch.batch_norm_epsilon}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _row(name: str, key: StageBlockKey) -> dict[str, Any]:
    block = key.block
    return {
        "name": name,
        "kind": block.kind,
        "inputs": key.in_channels,
        "expanded": block.expanded_channels,
        "outputs": key.out_channels,
        "kernel": block.kernel_size,
        "stride": key.stride,
        "activation": block.activation,
        "squeezed": key.squeeze_channels if block.use_se else None,
        "gate": block.gate,
    }


def _call(row: dict[str, Any]) -> str:
    values = (f'"{value}"' if isinstance(value, str) else repr(value) for value in row.values())
    return f"dict({', '.join(f'{name}={value}' for name, value in zip(row, values, strict=True))})"
