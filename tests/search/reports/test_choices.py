"""What networks chose, read from their architectures."""

from dataclasses import replace

from search.reports.choices import choice_shares, described
from space.arch import Architecture, Block, Head, Stage, Stem


def network(kernels: tuple[int, ...], width: int = 24, expanded: int | None = 48) -> Architecture:
    """One stage behind a stem of 16 channels."""
    blocks = tuple(
        Block(kernel_size=kernel, expanded_channels=expanded, use_se=kernel == 5, activation="relu")  # type: ignore[arg-type]
        for kernel in kernels
    )
    return Architecture(
        resolution=32,
        in_channels=1,
        num_classes=10,
        stem=Stem(out_channels=16, stride=1, activation="hswish"),
        stages=(Stage(out_channels=width, stride=2, blocks=blocks),),
        head=Head(conv_channels=96, hidden_channels=128, activation="hswish"),
    )


def test_description_names_what_differs_within_a_stage() -> None:
    """48 channels are 3.0 times the stem's 16 and 2.0 times the stage's own 24."""
    assert described(network((3, 5))) == ["2 × k3/5, e3.0/2.0, w24, SE no/yes, relu"]
    assert described(network((5,), expanded=None)) == ["1 × k5, e1.0, w24, SE, relu"]


def test_shares_count_blocks_and_stages() -> None:
    """Kernels count once for each block, depths and widths once for each network."""
    shares = choice_shares([network((3, 5)), network((5,))], [network((3,), width=8)] * 4)[0]
    assert [(one.choice, one.chosen, one.all) for one in shares["depth"]] == [("1", 0.5, 1.0), ("2", 0.5, 0.0)]
    assert [(one.choice, one.chosen) for one in shares["kernel"]] == [("3", 1 / 3), ("5", 2 / 3)]
    assert [(one.choice, one.all) for one in shares["width"]] == [("8", 1.0), ("24", 0.0)], "in the order of numbers"


def test_networks_of_other_shapes_are_left_out() -> None:
    """A network with another number of stages has no stage to compare with."""
    other = network((3,))
    longer = replace(other, stages=other.stages * 2)
    shares = choice_shares([other], [other, longer])
    assert len(shares) == 1
    assert shares[0]["kernel"][0].all == 1
    assert choice_shares([], [other]) == []
