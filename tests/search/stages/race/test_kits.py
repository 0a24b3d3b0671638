"""What kits of finalists say, as it is read back."""

from types import SimpleNamespace
from typing import cast

from latency.results import Network, Results
from search.stages.race.kits import reference_of, scaled_of
from space.reference import mobilenet_v3_small_32px
from tests.search.makers import measurement

WIDTHS = (9, 45, 10, 36)


def test_scaled_references_come_back_the_widest_first() -> None:
    """In whatever order a manifest had them: the baseline is the first of them that meets the target."""
    networks = {f"width-{width}": mobilenet_v3_small_32px(width=width / 100) for width in WIDTHS}
    networks |= {"trial-3": mobilenet_v3_small_32px(width=0.8), "reference": mobilenet_v3_small_32px(width=0.5)}
    found = {
        name: Network(architecture=arch, sha256="", measurement=measurement(1.0)) for name, arch in networks.items()
    }
    results = cast("Results", SimpleNamespace(networks=found))
    assert list(scaled_of(results)) == ["width-45", "width-36", "width-10", "width-9"]
    assert scaled_of(results)["width-36"] == networks["width-36"]
    assert reference_of(results) == networks["reference"]
