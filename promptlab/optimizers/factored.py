"""What each part of a prompt is worth, learnt from the scores of whole prompts, and which whole to ask next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Combination: TypeAlias = tuple[int, ...]  # a level of each factor


@dataclass
class Factored:
    """logit P(right) = mean + item + the level of each factor + the pair of levels of two that are `crossed`, all with
    normal priors.

    `sizes` are the numbers of levels: instructions, sets of demonstrations, orders, formats. Scores of one combination
    tell about all that share a level with it, and hard items are not held against those that were asked them. The
    posterior is normal about its mode (Laplace's approximation); scores between 0 and 1 count as shares of a right
    answer. Pairs that were never asked are taken to have no effect of their own: it is not worth asking all of them.
    """

    sizes: Sequence[int]
    crossed: tuple[int, int] | None = None
    sd: float = 1.0  # of a level
    pair_sd: float = 0.5
    item_sd: float = 1.5
    data: list[tuple[int, Combination, float]] = field(default_factory=list)

    def add(self, item: int, combination: Combination, score: float) -> None:
        self.data.append((item, combination, score))

    def pair(self, combination: Combination) -> tuple[int, ...]:
        return tuple(combination[factor] for factor in self.crossed or ())

    @property
    def pairs(self) -> list[tuple[int, ...]]:
        """Those that were asked, in the order of their columns."""
        return list(dict.fromkeys(self.pair(c) for _, c, _ in self.data)) if self.crossed else []

    def posterior(self) -> tuple[Array, Array]:
        """The mode of the effects, of the levels of each factor and then of the pairs, and their covariance."""
        items = {item: i for i, item in enumerate(dict.fromkeys(item for item, _, _ in self.data))}
        pairs = {pair: i for i, pair in enumerate(self.pairs)}
        offsets, levels = np.cumsum([0, *self.sizes[:-1]]), sum(self.sizes)
        effects = levels + len(pairs)
        x = np.zeros((len(self.data), effects + 1 + len(items)))  # the effects, the mean, the items
        for row, (item, combination, _) in zip(x, self.data, strict=True):
            row[offsets + np.array(combination)] = 1
            if pairs:
                row[levels + pairs[self.pair(combination)]] = 1
            row[effects] = row[effects + 1 + items[item]] = 1
        y = np.array([score for _, _, score in self.data])
        sds = (self.sd, self.pair_sd, 3.0, self.item_sd)
        precision = np.repeat([sd**-2 for sd in sds], [levels, len(pairs), 1, len(items)])
        mode, hessian = newton(x, y, precision)
        return mode[:effects], np.asarray(np.linalg.inv(hessian)[:effects, :effects], np.float64)

    def draws(self, n: int, rng: np.random.Generator) -> list[Combination]:
        """n combinations by Thompson sampling: each the best under effects drawn from the posterior."""
        mode, covariance = self.posterior()
        drawn = rng.multivariate_normal(mode, covariance, size=n, method="cholesky")
        return [self.best(effects, 1, 1)[0] for effects in drawn]

    def likely(self, n: int, levels: int = 4) -> list[Combination]:
        """The n combinations with the highest sums of effects at the mode, of the best `levels` of each factor."""
        return self.best(self.posterior()[0], n, levels)

    def best(self, effects: Array, n: int, levels: int) -> list[Combination]:
        """The n best of those that are made of the best `levels` of each factor, and of those in the best pairs."""
        *parts, own = np.split(effects, np.cumsum(self.sizes))
        pairs = dict(zip(self.pairs, own.tolist(), strict=True))
        kept = [set(np.argsort(-part, kind="stable")[:levels].tolist()) for part in parts]
        if self.crossed:
            a, b = self.crossed
            top = sorted(pairs, key=lambda pair: -(parts[a][pair[0]] + parts[b][pair[1]] + pairs[pair]))[:levels]
            kept[a] |= {pair[0] for pair in top}
            kept[b] |= {pair[1] for pair in top}

        def worth(combination: Combination) -> float:
            single = sum(float(part[level]) for part, level in zip(parts, combination, strict=True))
            return float(round(single + pairs.get(self.pair(combination), 0.0), 9))

        return sorted(product(*map(sorted, kept)), key=worth, reverse=True)[:n]


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
