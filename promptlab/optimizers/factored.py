"""What each part of a prompt is worth, learnt from the scores of whole prompts, and which whole to ask next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Combination: TypeAlias = tuple[int, ...]  # a level of each factor


@dataclass
class Factored:
    """logit P(right) = mean + item + the level of each factor, and of pairs of levels where factors are crossed.

    `sizes` are the numbers of levels: instructions, sets of demonstrations, orders, formats. Scores of one combination
    tell about all that share a level with it, and hard items are not held against those that were asked them. All
    effects have normal priors; the posterior is normal about its mode (Laplace's approximation). Scores between 0 and 1
    count as shares of a right answer. `crossed` are two factors that do not just add up, with a group for each level of
    the second: with groups 0, 1, 1, … for no demonstrations and some, an instruction may be good without any only.
    """

    sizes: Sequence[int]
    crossed: tuple[int, int, Sequence[int]] | None = None
    sd: float = 1.0  # of a level
    pair_sd: float = 0.7
    item_sd: float = 1.5
    data: list[tuple[int, Combination, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.starts = [0, *np.cumsum(self.sizes).tolist()]  # of each factor's columns, and of the pairs'
        self.pairs: list[tuple[int, int]] = []
        if self.crossed:
            first, _, groups = self.crossed
            self.pairs = list(product(range(self.sizes[first]), sorted(set(groups))))
        self.column = {pair: self.starts[-1] + i for i, pair in enumerate(self.pairs)}

    def add(self, item: int, combination: Combination, score: float) -> None:
        self.data.append((item, combination, score))

    def columns(self, combination: Combination) -> list[int]:
        """The effects that a combination has."""
        own = [start + level for start, level in zip(self.starts, combination, strict=False)]
        if self.crossed:
            first, second, groups = self.crossed
            own.append(self.column[combination[first], groups[combination[second]]])
        return own

    def posterior(self) -> tuple[Array, Array]:
        """The mode of the effects, of the levels of each factor and then of the pairs, and their covariance."""
        items = {item: i for i, item in enumerate(dict.fromkeys(item for item, _, _ in self.data))}
        levels, effects = self.starts[-1], self.starts[-1] + len(self.pairs)
        x = np.zeros((len(self.data), effects + 1 + len(items)))  # the effects, the mean, the items
        for row, (item, combination, _) in zip(x, self.data, strict=True):
            row[[*self.columns(combination), effects, effects + 1 + items[item]]] = 1
        y = np.array([score for _, _, score in self.data])
        sds = (self.sd, self.pair_sd, 3.0, self.item_sd)
        precision = np.repeat([sd**-2 for sd in sds], [levels, len(self.pairs), 1, len(items)])
        mode, hessian = newton(x, y, precision)
        return mode[:effects], np.asarray(np.linalg.inv(hessian)[:effects, :effects], np.float64)

    def draws(self, n: int, rng: np.random.Generator) -> list[Combination]:
        """n combinations by Thompson sampling: each the best under effects drawn from the posterior."""
        mode, covariance = self.posterior()
        drawn = rng.multivariate_normal(mode, covariance, size=n, method="cholesky")
        return [self.best(effects, 1, 2)[0] for effects in drawn]

    def likely(self, n: int, levels: int = 4) -> list[Combination]:
        """The n combinations with the highest sums of effects at the mode, of the best `levels` of each factor."""
        return self.best(self.posterior()[0], n, levels)

    def best(self, effects: Array, n: int, levels: int) -> list[Combination]:
        """The n best combinations of the best `levels` of each factor, and of those that make the best pairs."""
        parts = [effects[start:end] for start, end in pairwise(self.starts)]
        kept = [set(np.argsort(-part, kind="stable")[:levels].tolist()) for part in parts]
        if self.crossed:
            first, second, groups = self.crossed
            fit: dict[int, int] = {}  # the best level of each group
            for level in np.argsort(parts[second], kind="stable").tolist():
                fit[groups[level]] = level
            own = {(a, fit[g]): effects[self.column[a, g]] for a, g in self.pairs}
            sums = {(a, b): parts[first][a] + parts[second][b] + effect for (a, b), effect in own.items()}
            for a, b in sorted(sums, key=lambda pair: -sums[pair])[:levels]:
                kept[first].add(a)
                kept[second].add(b)
        worth = {c: round(float(effects[self.columns(c)].sum()), 9) for c in product(*map(sorted, kept))}
        return sorted(worth, key=lambda c: -worth[c])[:n]


def newton(x: Array, y: Array, precision: Array, steps: int = 50) -> tuple[Array, Array]:
    """The mode of a logistic regression with a normal prior about 0, and minus the Hessian of its log density there."""

    def loss(beta: Array) -> float:
        eta = x @ beta
        return float(np.logaddexp(0, eta).sum() - y @ eta + 0.5 * (precision * beta**2).sum())

    def curvature(beta: Array) -> tuple[Array, Array]:
        p = 1 / (1 + np.exp(-(x @ beta)))
        return p, (x.T * (p * (1 - p))) @ x + np.diag(precision)

    beta = np.zeros(x.shape[1])
    for _ in range(steps):
        p, hessian = curvature(beta)
        step = np.linalg.solve(hessian, x.T @ (y - p) - precision * beta)
        size = 1.0
        while size > 1e-6 and loss(beta + size * step) > loss(beta):  # Newton's step may go too far
            size /= 2
        beta = beta + size * step
        if np.abs(size * step).max() < 1e-6:
            break
    return beta, curvature(beta)[1]
