"""A surrogate of top-1: a Gaussian process over the choices and the exact costs of networks, in pure numpy.

The covariance of two networks is

    additive * sum_c w_c <x_c, y_c>  +  interacting * exp(-1/2 sum_c w_c |x_c - y_c|^2 / length)

over columns c: one per open choice, one-hot, and one per cost, its logarithm. The first part holds effects that add
up, the second one interactions of every order, which fade with the choices in which two networks differ (Hutter et
al. 2011, SMAC; Oh et al. 2019, COMBO). The relevances w (MacKay 1996, automatic relevance determination) have a prior
that columns of one kind, such as all kernel sizes, share. Hyperparameters are the maximum a posteriori (Rasmussen and
Williams 2006, section 5.4.1). Costs are known before any training; on NAS-Bench-Macro they explain about half of
the variance that a few dozen trials leave unexplained without them.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from space.encoding import INACTIVE, Codes, Encoding

# Fitting takes the cube of the rows, so a part of a long search must do; the posterior takes more of them.
FITTED_ROWS, KEPT_ROWS = 100, 256
_STEPS = 25

# A cost a quarter larger is a difference like that between two choices.
_COST_UNIT = 0.25

# Priors: medians, and deviations of the logarithm. Targets have variance 1, and all choices together weigh 1.
_ADDITIVE, _INTERACTING, _LENGTH, _NOISE = (0.5, 1.0), (0.5, 1.0), (0.6, 0.7), (0.05, 1.5)
_KIND_DEVIATION, _COLUMN_DEVIATION = 0.7, 0.7

# Trainings that collapse lie further below the median than this many deviations. They say bad, not how bad.
_COLLAPSED = 5.0


def warped(top1: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the error rate: a choice that takes a tenth off the error does so at any error rate."""
    scores: np.ndarray = -np.log(np.maximum(1 - top1, 1e-4))
    return scores


def unwarped(scores: np.ndarray) -> np.ndarray:
    """The top-1 (0–1) of scores."""
    top1: np.ndarray = 1 - np.exp(-scores)
    return top1


class Columns:
    """Rows of codes and costs as numbers: features, each owned by one column; columns are of a kind."""

    def __init__(self, encoding: Encoding, costs: np.ndarray) -> None:
        """`costs`, of shape (networks, figures), say what is usual."""
        parameters = list(encoding.space.parameters.items())
        self._open = np.array([at for at, (_, choices) in enumerate(parameters) if len(choices) > 1], dtype=np.intp)
        # A block beyond the depth of its stage is a choice of its own.
        levels = np.array([len(parameters[at][1]) + 1 for at in self._open], dtype=np.intp)
        self._starts = np.cumsum(levels) - levels - INACTIVE
        self._levels = int(levels.sum())
        known = costs > 0
        self._usual = np.log(np.where(known, costs, 1)).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        names = [parameters[at][0].rpartition(".")[2] for at in self._open] + ["cost"] * costs.shape[1]
        kinds = sorted(set(names))
        self.kinds = np.array([kinds.index(name) for name in names], dtype=np.intp)
        self.owners = np.repeat(np.arange(len(names)), [*levels, *[1] * costs.shape[1]])
        self.weight = 1 / max(1, len(self._open))

    def features(self, codes: Codes, costs: np.ndarray) -> np.ndarray:
        """Shape (networks, features)."""
        hot = np.zeros((len(codes), self._levels))
        hot[np.arange(len(codes))[:, None], codes[:, self._open] + self._starts] = 1
        # A cost of zero stands for one that is not known.
        logarithms = np.where(costs > 0, np.log(np.where(costs > 0, costs, 1)), self._usual)
        return np.hstack([hot, (logarithms - self._usual) / _COST_UNIT])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """See the module; `relevances` has shape (columns,)."""

    additive: float
    interacting: float
    length: float
    noise: float
    relevances: np.ndarray

    def covariances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Of features times the roots of their relevances, shapes (n, features) and (m, features): shape (n, m)."""
        products = one @ other.T
        distances = 0.5 * ((one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)) - products
        found: np.ndarray = self.additive * products + self.interacting * np.exp(-distances / self.length)
        return found

    def inverse(self, rows: np.ndarray) -> np.ndarray:
        """Of the covariance of what is observed of these, noise included."""
        return np.linalg.inv(self.covariances(rows, rows) + self.noise * np.eye(len(rows)))


class Posterior:
    """The logarithm of the posterior density of hyperparameters, up to a constant, by its gradient."""

    def __init__(self, columns: Columns, features: np.ndarray, targets: np.ndarray) -> None:
        self._columns, self._features, self._targets = columns, features, targets
        self._squares = features**2
        kinds, count = int(columns.kinds.max(initial=-1)) + 1, len(columns.kinds)
        medians, deviations = zip(_ADDITIVE, _INTERACTING, _LENGTH, _NOISE, strict=True)
        self._first_column = 4 + kinds
        self.mode = np.concatenate([np.log(medians), np.zeros(kinds + count)])
        self.deviations = np.concatenate(
            [deviations, np.full(kinds, _KIND_DEVIATION), np.full(count, _COLUMN_DEVIATION)]
        )

    def hyperparameters(self, logarithms: np.ndarray) -> Hyperparameters:
        """What a point stands for: the logarithms of four numbers, then of kinds' and of columns' relevances."""
        additive, interacting, length, noise = np.exp(logarithms[:4]).tolist()
        relevances = np.exp(logarithms[4:][self._columns.kinds] + logarithms[self._first_column :])
        return Hyperparameters(
            additive=additive,
            interacting=interacting,
            length=length,
            noise=noise,
            relevances=relevances * self._columns.weight,
        )

    def gradient(self, logarithms: np.ndarray) -> np.ndarray:
        """By the logarithms, shape as they have (Rasmussen and Williams 2006, equation 5.9, and the prior's)."""
        chosen, owners, features = self.hyperparameters(logarithms), self._columns.owners, self._features
        weighted = features * np.sqrt(chosen.relevances[owners])
        products = weighted @ weighted.T
        squares = np.diag(products)
        differences = products - 0.5 * (squares[:, None] + squares)
        interacting = chosen.interacting * np.exp(differences / chosen.length)
        covariance = chosen.additive * products + interacting
        covariance[np.diag_indices_from(covariance)] += chosen.noise
        inverse = np.linalg.inv(covariance)
        solved = inverse @ self._targets
        outer = 0.5 * (np.outer(solved, solved) - inverse)
        fading = outer * interacting
        by_length = fading / chosen.length
        by_products = chosen.additive * outer + by_length
        by_features = ((by_products @ features) * features).sum(axis=0) - by_length.sum(axis=1) @ self._squares
        by_columns = np.bincount(owners, by_features, minlength=len(chosen.relevances)) * chosen.relevances
        kinds = np.bincount(self._columns.kinds, by_columns, minlength=self._first_column - 4)
        four = (
            chosen.additive * (outer * products).sum(),
            fading.sum(),
            -(by_length * differences).sum(),
            chosen.noise * np.trace(outer),
        )
        likelihood = np.concatenate([four, kinds, by_columns])
        gradient: np.ndarray = likelihood - (logarithms - self.mode) / self.deviations**2
        return gradient


def _climbed(posterior: Posterior) -> Hyperparameters:
    """Uphill from the prior's mode by iRprop- (Igel and Hüsken 2000), which needs no line search."""
    point = posterior.mode
    step, before = np.full(len(point), 0.3), np.zeros(len(point))
    for _ in range(_STEPS):
        gradient = posterior.gradient(point)
        agreement = gradient * before
        step = np.clip(step * np.where(agreement > 0, 1.4, np.where(agreement < 0, 0.5, 1.0)), 1e-3, 1.0)
        before = np.where(agreement < 0, 0.0, gradient)
        point = point + np.sign(before) * step
    return posterior.hyperparameters(point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """What finished networks say of others."""

    columns: Columns
    hyperparameters: Hyperparameters
    middle: float
    scale: float
    rows: np.ndarray
    targets: np.ndarray
    inverse: np.ndarray

    @classmethod
    def fit(
        cls, encoding: Encoding, codes: Codes, top1: np.ndarray, costs: np.ndarray, rng: np.random.Generator
    ) -> Self:
        """Of valid rows, their top-1 (0–1), shape (networks,), and their costs, shape (networks, figures).

        Of more than `KEPT_ROWS` networks the better half is kept, and a random part of the others.
        """
        scores = warped(top1)
        scores = np.maximum(scores, _worst(scores))
        middle, scale = float(scores.mean()), float(scores.std()) or 1.0
        kept = np.argsort(-scores, kind="stable")
        if len(kept) > KEPT_ROWS:
            best = KEPT_ROWS // 2
            kept = np.concatenate([kept[:best], rng.choice(kept[best:], KEPT_ROWS - best, replace=False)])
        columns = Columns(encoding, costs[kept])
        features, targets = columns.features(codes[kept], costs[kept]), (scores[kept] - middle) / scale
        part = rng.permutation(len(kept))[:FITTED_ROWS]
        chosen = _climbed(Posterior(columns, features[part], targets[part]))
        rows = features * np.sqrt(chosen.relevances[columns.owners])
        return cls(
            columns=columns,
            hyperparameters=chosen,
            middle=middle,
            scale=scale,
            rows=rows,
            targets=targets,
            inverse=chosen.inverse(rows),
        )

    def _rows(self, codes: Codes, costs: np.ndarray) -> np.ndarray:
        relevances = self.hyperparameters.relevances[self.columns.owners]
        rows: np.ndarray = self.columns.features(codes, costs) * np.sqrt(relevances)
        return rows

    def believing(self, codes: Codes, costs: np.ndarray) -> Self:
        """The same, as sure of these networks as if what it predicts of them had been seen.

        So that networks in training are not proposed again, nor their neighbours (Ginsbourger et al. 2010, the kriging
        believer).
        """
        rows = self._rows(codes, costs)
        believed = self.hyperparameters.covariances(rows, self.rows) @ (self.inverse @ self.targets)
        every, targets = np.vstack([self.rows, rows]), np.concatenate([self.targets, believed])
        return replace(self, rows=every, targets=targets, inverse=self.hyperparameters.inverse(every))

    def scores(self, codes: Codes, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of warped top-1, without the noise of training; shapes (networks,)."""
        rows, chosen = self._rows(codes, costs), self.hyperparameters
        shared = chosen.covariances(rows, self.rows)
        own = chosen.additive * (rows**2).sum(axis=1) + chosen.interacting
        left = np.maximum(own - ((shared @ self.inverse) * shared).sum(axis=1), 1e-9)
        return self.middle + self.scale * (shared @ (self.inverse @ self.targets)), self.scale * np.sqrt(left)

    def predict(self, codes: Codes, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Median and, to first order, standard deviation of top-1 (0–1), shapes (networks,)."""
        means, deviations = self.scores(codes, costs)
        return unwarped(means), np.exp(-means) * deviations

    def optimistic(self, codes: Codes, costs: np.ndarray, deviations: float) -> np.ndarray:
        """The top-1 (0–1) that lies so many standard deviations above what is expected, shape (networks,)."""
        means, spread = self.scores(codes, costs)
        return unwarped(means + deviations * spread)


def _worst(scores: np.ndarray) -> float:
    """The least score of a training that did not collapse; 1.4826 makes a median a normal distribution's deviation."""
    middle = np.median(scores)
    deviation = 1.4826 * np.median(np.abs(scores - middle))
    return float(scores[scores >= middle - _COLLAPSED * deviation].min()) if deviation > 0 else -np.inf
