"""Which networks no other one beats, and how much of the possible they cover.

Losses are arrays of shape (networks, objectives), float64, every objective the better the smaller.
"""

import numpy as np


def losses(top1: np.ndarray, *costs: np.ndarray) -> np.ndarray:
    """The losses of networks: 1 - top-1, then costs such as latency in ms, each of shape (networks,)."""
    return np.column_stack([1 - np.asarray(top1, dtype=np.float64), *costs]).astype(np.float64)


def non_dominated(losses: np.ndarray) -> np.ndarray:
    """Which networks are on the Pareto front, bool, shape (networks,); of equal ones all are.

    A network is beaten by another one that is nowhere worse and somewhere better.
    """
    on_front = np.zeros(len(losses), dtype=bool)
    # In lexicographic order, whatever beats a network comes before it and is, or is beaten by, one on the front.
    for index in np.lexsort(losses.T[::-1]):
        front = losses[on_front]
        beaten = (front <= losses[index]).all(axis=1) & (front < losses[index]).any(axis=1)
        on_front[index] = not beaten.any()
    return on_front


def along_front(losses: np.ndarray) -> np.ndarray:
    """The order in which networks are kept that are to cover a front: indices, shape (networks,).

    Those on the front come first, then those on the front of the others, and so on; of one front the ones that stand
    far from their neighbours, with both ends ahead of all (Deb et al. 2002, section III). Ties go to the lower index.
    """
    order: list[int] = []
    left = np.arange(len(losses))
    while len(left):
        on_front = non_dominated(losses[left])
        front = left[on_front]
        order += front[np.argsort(-_crowding(losses[front]), kind="stable")].tolist()
        left = left[~on_front]
    return np.array(order, dtype=np.intp)


def _crowding(front: np.ndarray) -> np.ndarray:
    """The sum over objectives of the distance between both neighbours, as shares of the range; infinite at the ends."""
    distances = np.zeros(len(front))
    for values in front.T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        if ordered[-1] > ordered[0]:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
            # Of equal networks one end is enough.
            distances[[values.argmin(), values.argmax()]] = np.inf
    return distances


def hypervolume(losses: np.ndarray, reference: np.ndarray) -> float:
    """The volume of all that some network beats, up to a reference point of shape (objectives,); exact.

    Networks that are not better than the reference point everywhere add nothing. With three objectives and more, it
    is cut into slices along the last one (While et al. 2006), which takes n^(objectives - 1) steps.
    """
    inside = losses[(losses < reference).all(axis=1)]
    return _volume(inside[non_dominated(inside)], reference)


def _volume(points: np.ndarray, reference: np.ndarray) -> float:
    if len(points) == 0:
        return 0.0
    points = points[np.argsort(points[:, -1], kind="stable")]
    heights = np.diff(points[:, -1], append=reference[-1])
    if points.shape[1] == 2:
        return float((heights * (reference[0] - np.minimum.accumulate(points[:, 0]))).sum())
    if points.shape[1] == 1:
        return float(reference[0] - points[0, 0])
    slices = (_volume(points[: count + 1, :-1], reference[:-1]) for count in range(len(points)))
    return float(sum(height * area for height, area in zip(heights, slices, strict=True)))
