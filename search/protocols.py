"""How whole networks are measured in a search: as candidates, as finalists, in the end; and how long it takes."""

from dataclasses import replace

from latency.kit import KIT_MEMORY_MB
from latency.probe import Protocol
from search.config.load import RunConfig

# A network of which one can say that it is within one per cent; for what is slow there is a limit.
# All are opened anew on the way: measurements of a network by processes of their own then had a standard deviation of
# 0.2 %, and one of 0.5 % else (benchmarks/2026-11-30-measuring-anew.md).
SCREENING = Protocol(rounds=16, most_rounds=32, warm=8, precision=0.01, seconds=120.0, reopen=4)
# Their latency is what the user is promised: half a per cent, where the device is quiet enough for that. Twice as many
# rounds took a minute of a search of eleven, on a noisy machine, for intervals a quarter narrower.
FINALISTS = Protocol(rounds=32, most_rounds=200, warm=8, precision=0.005, seconds=120.0, reopen=4)
# Three networks cost little, and their figures are what the user is told.
CERTIFICATE = Protocol(rounds=60, most_rounds=400, warm=8, precision=0.005, seconds=360.0, reopen=4)
# What is carried to a device and back is the certificate, too, and people do not like to walk twice.
CARRIED = replace(CERTIFICATE, seconds=600.0, memory_mb=KIT_MEMORY_MB)
# So many scaled references are measured beside the finalists, from far below the target to above it; then, where the
# device can be asked again, so many between the widest that meets it and the next.
SCALED, FINER = 16, 6
# Of the proposals that are measured about this share is trained: 39 of 69 and 34 of 56, seen on one machine.
PASSING = 0.5

# Proposals that are measured at once; the first few tell how far predictions are off, which later ones are proposed by.
AT_ONCE, AT_FIRST = 48, 8
# Besides the finalists that are wanted, so many are measured at once in case that others turn out too slow.
SPARE = 4

# In turn with others a network takes longer than by its latency, and it has to be made and opened: seen with 20
# networks of 0.3 ms, which took 47 s as finalists, and as candidates 4 s; opening one anew took 12 ms.
_IN_TURN, _MAKING_S, _OPENING_S = 2.0, 0.1, 0.012
# A network that is not measured in any other time is visited so often.
_LEAST_VISITS = 4


def measuring_seconds(protocol: Protocol, networks: int, ms: float) -> float:
    """About how long so many networks of such a latency take, in as many rounds as they may on a noisy machine."""
    visit = (protocol.warm + 1) * _IN_TURN * ms / 1000
    if protocol.reopen is not None:
        visit += _OPENING_S / protocol.reopen
    running = networks * protocol.most_rounds * visit
    if protocol.seconds is not None:
        running = max(min(running, protocol.seconds), networks * _LEAST_VISITS * visit)
    return running + networks * _MAKING_S


def screening_seconds(config: RunConfig, ms: float) -> float:
    """About how long the candidates of a race take; of those along a front none is refused."""
    left = config.trials if config.blocks.objectives else round(config.trials / PASSING)
    others = max(0, left - AT_FIRST)
    batches = [AT_FIRST, *[AT_ONCE] * (others // AT_ONCE), others % AT_ONCE]
    return sum(measuring_seconds(SCREENING, networks, ms) for networks in batches)


def finalists_seconds(config: RunConfig, ms: float) -> float:
    """About how long the finalists of a race take, with the references beside them, and then the certificate."""
    finalists = measuring_seconds(FINALISTS, config.final.top_k + SPARE + SCALED + 1, ms)
    return finalists + certificate_seconds(ms)


def certificate_seconds(ms: float) -> float:
    """About how long the last measurement takes: of the found network, the baseline and the reference."""
    return measuring_seconds(CERTIFICATE, 3, ms)
