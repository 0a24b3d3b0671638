"""Architectures, block keys and measurements to draw, and a space small enough to list all of its members."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import strategies as st

from latency.calibration import Calibration
from latency.device import Device
from latency.measurement import Measurement
from latency.table import LatencyTable
from space.arch import Architecture, Block, Head, Stage, Stem
from space.choices import SearchSpace
from space.keys import BlockKey, StageBlockKey, StemKey, head_key
from space.preset import SpacePreset, StageChoices, StemChoice, load_preset

KERNELS = st.sampled_from((3, 5, 7))
STRIDES = st.sampled_from((1, 2))
ACTIVATIONS = st.sampled_from(("relu", "relu6", "hswish"))
GATES = st.sampled_from(("hard_sigmoid", "sigmoid"))

DEVICE = Device(
    name="pi4",
    processor="Cortex-A72",
    machine="aarch64",
    system="Linux",
    cores=4,
    provider="CPUExecutionProvider",
    threads=1,
    precision="float32",
    graph_optimization="all",
    runtime_version="1.20.0",
)


def blocks_of(widths: st.SearchStrategy[int]) -> st.SearchStrategy[Block]:
    """Blocks of every kind with expansions and squeezes of these widths."""
    inverted = {"kernel_size": KERNELS, "activation": ACTIVATIONS, "expanded_channels": st.none() | widths}
    return st.one_of(
        st.builds(Block, use_se=st.just(False), **inverted),
        st.builds(Block, use_se=st.just(True), squeeze_channels=st.none() | widths, gate=GATES, **inverted),
        st.builds(
            Block,
            kind=st.sampled_from(("depthwise_separable", "conv")),
            kernel_size=KERNELS,
            activation=ACTIVATIONS,
            expanded_channels=st.none(),
            use_se=st.just(False),
        ),
    )


def heads_of(widths: st.SearchStrategy[int]) -> st.SearchStrategy[Head]:
    """Heads with and without convolution and hidden layer."""
    hidden = [
        st.builds(Head, conv_channels=conv, hidden_channels=widths, activation=ACTIVATIONS, hidden_bias=st.booleans())
        for conv in (widths, st.none())
    ]
    without = st.builds(Head, conv_channels=widths, hidden_channels=st.none(), activation=ACTIVATIONS)
    return st.one_of(*hidden, without, st.just(Head(conv_channels=None, hidden_channels=None, activation="relu")))


def architectures(*, widest: int = 8192, largest: int = 2048, deepest: int = 3) -> st.SearchStrategy[Architecture]:
    """Architectures within the caps: `widest` channels, `largest` pixels, `deepest` stages and blocks per stage."""
    widths = st.integers(1, widest)
    blocks = blocks_of(widths)
    stages = st.builds(
        Stage,
        out_channels=widths,
        stride=STRIDES,
        blocks=st.lists(blocks, min_size=1, max_size=deepest).map(tuple),
    )
    return st.builds(
        Architecture,
        resolution=st.integers(8, largest),
        in_channels=st.integers(1, 4),
        num_classes=st.integers(2, 20),
        stem=st.builds(Stem, out_channels=widths, stride=STRIDES, activation=ACTIVATIONS),
        stages=st.lists(stages, min_size=1, max_size=deepest).map(tuple),
        head=heads_of(widths),
        batch_norm_epsilon=st.sampled_from((1e-3, 1e-5)),
    )


def block_keys() -> st.SearchStrategy[BlockKey]:
    """Keys of every kind, within the caps of the format."""
    widths, sides = st.integers(1, 8192), st.integers(1, 2048)
    blocks = blocks_of(widths)
    return st.one_of(
        st.builds(
            StemKey,
            resolution=sides,
            in_channels=st.integers(1, 16),
            out_channels=widths,
            stride=STRIDES,
            activation=ACTIVATIONS,
        ),
        st.builds(
            StageBlockKey,
            resolution=sides,
            in_channels=widths,
            out_channels=widths,
            stride=STRIDES,
            block=blocks,
        ),
        st.builds(
            head_key, heads_of(widths), resolution=sides, in_channels=widths, num_classes=st.integers(2, 100_000)
        ),
    )


def measurements() -> st.SearchStrategy[Measurement]:
    """Samples from 1 ns to a minute, in ms."""
    samples = st.lists(st.floats(1e-6, 6e4), min_size=1, max_size=6).map(tuple)
    return st.builds(Measurement, cold_wall=samples, cold_cpu=samples, warm_wall=samples, warm_cpu=samples)


def constant(ms: float) -> Measurement:
    """A measurement whose every sample is `ms`, so that its estimate is `ms` as well."""
    return Measurement(cold_wall=(ms,), cold_cpu=(ms,), warm_wall=(ms,), warm_cpu=(ms,))


def small_space() -> SearchSpace:
    """256 members at 16 px; all choices but the stem and the head vary, and residual connections come and go."""
    preset = SpacePreset(
        name="small",
        reference="mobilenet_v3_small_32px",
        reward_exponent=-0.15,
        stem=StemChoice(channels=8, stride=1, activation="hswish"),
        stages=(
            StageChoices(
                channels=16,
                stride=2,
                depth=(1, 2),
                width=(0.5, 1.0),
                kernel=(3, 5),
                expansion=(1, 3),
                se=(False, True),
                activation=("relu",),
            ),
            StageChoices(
                channels=16,
                stride=1,
                depth=(1, 2),
                width=(1.0, 1.5),
                kernel=(7,),
                expansion=(2,),
                se=(False,),
                activation=("relu", "hswish"),
            ),
        ),
        head=Head(conv_channels=32, hidden_channels=48, activation="hswish"),
    )
    return SearchSpace(preset=preset, width=1.0, resolution=16, in_channels=1, num_classes=4)


def free_space() -> SearchSpace:
    """272 members at 16 px, the blocks of the first stage free; 3 and 3.2 times 8 channels round to the same 24."""
    space = small_space()
    first, second = space.preset.stages
    first = replace(first, depth=(1, 3), kernel=(3,), expansion=(3, 3.2, 1), width=(0.5, 1.0), blocks="free")
    second = replace(second, depth=(1, 2), width=(1.0,), activation=("relu",))
    return replace(space, preset=replace(space.preset, stages=(first, second)))


def minute_space() -> SearchSpace:
    """Twelve members of one stage, 21 keys with those of the reference: quick to measure for real."""
    space = small_space()
    stage = replace(space.preset.stages[0], depth=(1, 2, 3), kernel=(3,), width=(1.0,), activation=("relu",))
    return replace(space, preset=replace(space.preset, stages=(stage,)))


def default_space(
    *, width: float = 1.0, resolution: int = 32, in_channels: int = 3, num_classes: int = 10
) -> SearchSpace:
    """The shipped space."""
    return SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"),
        width=width,
        resolution=resolution,
        in_channels=in_channels,
        num_classes=num_classes,
    )


def members(space: SearchSpace) -> Iterator[Architecture]:
    """All members by brute force, one per combination of choices."""
    names = list(space.parameters)
    for values in itertools.product(*space.parameters.values()):
        yield space.architecture(dict(zip(names, values, strict=True)))


def random_table(space: SearchSpace, seed: int, calibration: Calibration | None = None) -> LatencyTable:
    """A made-up latency between 0.1 and 1 ms for every reachable block: for testing algorithms, not devices."""
    rng = random.Random(seed)
    entries = {key: constant(rng.uniform(0.1, 1)) for key in space.reachable_keys()}
    table = LatencyTable(device=DEVICE, scope=space.scope, entries=entries)
    return table if calibration is None else replace(table, calibration=calibration)
