"""What a plan says of photos: where their networks begin, and who judges them."""

from pathlib import Path

import pytest

from search.config.load import parse_config
from search.plan import Speed, look_up, make_plan
from service.terminal.searches import print_plan
from tests.search.stages.test_begun import published
from tests.tiny import dark_and_bright


def told(source: str, capsys: pytest.CaptureFixture[str], **changes: object) -> str:
    """A plan's lines, as one."""
    inputs = look_up(parse_config({"data": {"source": source, "resolution": 16}, "target": "60%", **changes}))
    speed = Speed(images_per_second=100.0, table_minutes=0.0, blocks_in_space=9, blocks_to_measure=9, range=None)
    print_plan(make_plan(inputs, speed))
    return " ".join(capsys.readouterr().out.split())


def test_photos_from_scratch_are_told_of_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command that begins with some."""
    source = f"imagefolder:{dark_and_bright(tmp_path / 'my photos', each=20, pixels=16)}"
    plan = told(source, capsys)
    assert "all networks are trained from scratch; to begin with published weights instead: mobilenas search" in plan
    assert f"--init torchvision:mobilenet_v2 --data '{source}' --resolution 16 --target 60%" in plan
    assert "judging" not in plan


def test_a_search_from_weights_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And that each of few images judges what was trained without it."""
    source = f"imagefolder:{dark_and_bright(tmp_path / 'photos', each=20, pixels=16)}"
    weights = published(tmp_path)
    plan = told(source, capsys, init=str(weights))
    assert f"all networks begin with what they share with {weights}" in plan
    assert "each network is trained 5 times, each time without a part of the images" in plan
    assert "space mobilenet-v3-small, width 0.35" in plan
