"""How whole networks are measured in a search: as candidates, as finalists, in the end; and how long it takes."""

from latency.probe import Protocol
from search.config.load import RunConfig

# A network of which one can say that it is within one per cent; for what is slow there is a limit.
SCREENING = Protocol(rounds=16, most_rounds=32, warm=8, precision=0.01, seconds=120.0)
# Their latency is what the user is promised: half a per cent, where the device is quiet enough for that.
FINALISTS = Protocol(rounds=32, most_rounds=400, warm=8, precision=0.005, seconds=120.0)
# Three networks cost little, and their figures are what the user is told. On a virtual machine with noisy neighbours
# 120 rounds gave intervals of 3 to 7 %, 1,000 rounds 1 to 2 %.
CERTIFICATE = Protocol(rounds=60, most_rounds=400, warm=8, precision=0.005, seconds=360.0)
# Of the scaled references so many are measured beside the finalists that are nearest to the target.
SCALED = 16
# Of the proposals that are measured about this share is trained.
PASSING = 0.3

# In turn with others a network takes longer than by its latency, and it has to be opened once: seen with 20 networks
# of 0.3 ms, which took 47 s as finalists, and as candidates 4 s.
_IN_TURN, _OPENING_S = 2.0, 0.1


def measuring_seconds(protocol: Protocol, networks: int, ms: float) -> float:
    """About how long so many networks of such a latency take, in as many rounds as they may."""
    running = networks * protocol.most_rounds * (protocol.warm + 1) * _IN_TURN * ms / 1000
    return min(running, protocol.seconds or running) + networks * _OPENING_S


def finalists_seconds(config: RunConfig, ms: float) -> float:
    """About how long the finalists of a race take, with the references beside them."""
    return measuring_seconds(FINALISTS, config.final.top_k + SCALED + 1, ms)
