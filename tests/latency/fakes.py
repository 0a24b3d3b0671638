"""A device whose every latency is known: stands in for measuring where algorithms are tested, not devices."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from latency.device import Device
from latency.kit import Campaign, NetworkGraph
from latency.measurement import Measurement
from latency.meter import MeasuringProgress
from latency.results import Network, Other, Results
from latency.table import LatencyTable
from space.arch import Architecture
from space.keys import BlockKey
from tests.strategies import DEVICE, constant


@dataclass
class FakeMeter:
    """Blocks take what `blocks` says, networks what `network` says, times `factor`; it remembers what it was asked."""

    blocks: Callable[[BlockKey], float]
    network: Callable[[Architecture], float] = lambda _: 1.0
    factor: float = 1.0
    device: Device = DEVICE
    asked: list[Campaign] = field(default_factory=list)

    @classmethod
    def of(cls, truth: LatencyTable, factor: float = 1.0) -> "FakeMeter":
        """The device of a table."""
        return cls(truth.alone_ms, truth.estimate, factor, truth.device)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """See `latency.meter.Meter`."""
        yield

    def run(self, campaign: Campaign, progress: MeasuringProgress | None = None, *, keep: bool = False) -> Results:  # noqa: ARG002 - nothing is lost here
        """See `latency.meter.Meter`."""
        self.asked.append(campaign)
        if progress:
            progress(1, 1, "")

        def measured(keys: tuple[BlockKey, ...]) -> Mapping[BlockKey, Measurement]:
            return {key: constant(self.factor * self.blocks(key)) for key in keys}

        networks = {}
        for name, network in campaign.networks.items():
            arch = network.architecture if isinstance(network, NetworkGraph) else network
            found = constant(self.factor * self.network(arch))
            networks[name] = Network(architecture=arch, sha256="", measurement=found)
        others = {
            name: Other(sha256=hashlib.sha256(other.graph).hexdigest(), measurement=constant(self.factor))
            for name, other in campaign.others.items()
        }
        return Results(
            others=others,
            device=self.device,
            purpose=campaign.purpose,
            protocol=campaign.protocol,
            blocks=measured(campaign.blocks),
            networks=networks,
            beside=measured(campaign.beside),
            conditions={"seconds": 1.0, "seconds_inside": 0.5},
            warnings=(),
            unsettled=(),
        )
