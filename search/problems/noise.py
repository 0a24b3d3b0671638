"""Which of a network's trainings a run sees: the same one for every sampler of equal seed."""

import hashlib


def drawn(seed: int, network: str, count: int) -> int:
    """The number, below `count`, of the training that is seen of a network."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{network}".encode()).digest()[:4]) % count
