"""Pictures that look alike: the same one saved again, smaller, brighter or in another format."""

from collections import defaultdict

import numpy as np

OUTLINE = (9, 8)
"""Width and height to which a picture is shrunk, in grey, to be compared with others."""

# Hashes are cut into so many parts of 16 bits; two that differ in fewer bits have a part in common.
_PARTS = 4
_FLAT, _SAME_FLAT, _SAME = 6.0, 2.0, 0.985
# Among more pictures with a part in common (plain backgrounds, mostly) each is compared with the next few alone, in
# the order of their outlines.
_CROWD, _NEXT = 2000, 64


def look_alike(outlines: np.ndarray) -> list[list[int]]:
    """Groups of pictures that look alike, each in ascending order; `outlines` are uint8 N x 8 x 9.

    Candidates have difference hashes (Krawetz 2013) that differ in at most three of 64 bits; of these the outlines
    must agree but for brightness and contrast.
    """
    bits = (outlines[:, :, 1:] > outlines[:, :, :-1]).reshape(len(outlines), 64)
    parts = np.packbits(bits, axis=1).view(">u2").astype(np.int64)
    hashes = np.packbits(bits, axis=1).view(">u8")[:, 0]
    flat = outlines.reshape(len(outlines), OUTLINE[0] * OUTLINE[1]).astype(np.float32)
    groups = _Groups(len(outlines))
    for part in range(_PARTS):
        order = np.argsort(parts[:, part], kind="stable")
        ends = np.flatnonzero(np.diff(parts[order, part])) + 1
        for bucket in np.split(order, ends):
            if len(bucket) > 1:
                _join_bucket(groups, bucket, hashes, flat)
    return groups.several()


def _join_bucket(groups: "_Groups", bucket: np.ndarray, hashes: np.ndarray, flat: np.ndarray) -> None:
    is_crowd = len(bucket) > _CROWD
    if is_crowd:
        bucket = bucket[np.lexsort(flat[bucket].T)]
    for at, one in enumerate(bucket[:-1]):
        others = bucket[at + 1 : at + 1 + _NEXT] if is_crowd else bucket[at + 1 :]
        near = others[np.bitwise_count(hashes[others] ^ hashes[one]) < _PARTS]
        if len(near):
            for other in near[_agree(flat[one], flat[near])]:
                groups.join(int(one), int(other))


def _agree(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether outlines (float32 N x 72) are that of `one` in another light, bool N."""
    mine, theirs = one - one.mean(), others - others.mean(1, keepdims=True)
    if mine.std() < _FLAT:
        near: np.ndarray = np.abs(others - one).max(1) <= _SAME_FLAT
        return near
    lengths = np.linalg.norm(mine) * np.maximum(np.linalg.norm(theirs, axis=1), 1e-6)
    alike: np.ndarray = theirs @ mine / lengths >= _SAME
    return alike


class _Groups:
    """Numbers that belong together, however many steps apart."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def join(self, one: int, other: int) -> None:
        """Put two into one group."""
        first, second = sorted((self._root(one), self._root(other)))
        self._parents[second] = first

    def several(self) -> list[list[int]]:
        """The groups of more than one."""
        found: dict[int, list[int]] = defaultdict(list)
        for number in range(len(self._parents)):
            found[self._root(number)].append(number)
        return [group for group in found.values() if len(group) > 1]
