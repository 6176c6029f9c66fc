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
    """logit P(right) = mean + item + the level of each factor, all with Gaussian priors.

    `sizes` are the numbers of levels: instructions, sets of demonstrations, orders, formats. Scores of one combination
    tell about all that share a level with it, and hard items are not held against those that were asked them. The
    posterior is normal about its mode (Laplace's approximation); scores between 0 and 1 count as shares of a right
    answer. There are no interactions: whoever uses it races the best wholes.
    """

    sizes: Sequence[int]
    sd: float = 1.0  # of a level
    item_sd: float = 1.5
    data: list[tuple[int, Combination, float]] = field(default_factory=list)

    def add(self, item: int, combination: Combination, score: float) -> None:
        self.data.append((item, combination, score))

    def posterior(self) -> tuple[Array, Array]:
        """The mode of the levels' effects, factor after factor, and their covariance."""
        items = {item: i for i, item in enumerate(dict.fromkeys(item for item, _, _ in self.data))}
        levels = sum(self.sizes)
        offsets = np.cumsum([0, *self.sizes[:-1]])
        x = np.zeros((len(self.data), levels + 1 + len(items)))  # the levels, the mean, the items
        for row, (item, combination, _) in zip(x, self.data, strict=True):
            row[offsets + np.array(combination)] = 1
            row[levels] = row[levels + 1 + items[item]] = 1
        y = np.array([score for _, _, score in self.data])
        precision = np.repeat([self.sd**-2, 0.1, self.item_sd**-2], [levels, 1, len(items)])
        mode, hessian = newton(x, y, precision)
        return mode[:levels], np.asarray(np.linalg.inv(hessian)[:levels, :levels], np.float64)

    def draws(self, n: int, rng: np.random.Generator) -> list[Combination]:
        """n combinations by Thompson sampling: each the best under effects drawn from the posterior."""
        mode, covariance = self.posterior()
        return [self.best(effects) for effects in rng.multivariate_normal(mode, covariance, size=n, method="cholesky")]

    def best(self, effects: Array) -> Combination:
        """The combination with the highest sum of effects: factors do not interact, so the best level of each."""
        return tuple(int(part.argmax()) for part in np.split(effects, np.cumsum(self.sizes[:-1])))

    def likely(self, n: int, levels: int = 4) -> list[Combination]:
        """The n combinations with the highest sums of effects at the mode, of the best `levels` of each factor."""
        mode, _ = self.posterior()
        parts = [dict(enumerate(part.tolist())) for part in np.split(mode, np.cumsum(self.sizes[:-1]))]
        kept = [sorted(part, key=lambda level: -part[level])[:levels] for part in parts]

        def worth(combination: Combination) -> float:
            return float(round(sum(part[level] for part, level in zip(parts, combination, strict=True)), 9))

        return sorted(product(*kept), key=worth, reverse=True)[:n]


def newton(x: Array, y: Array, precision: Array, steps: int = 50) -> tuple[Array, Array]:
    """The mode of a logistic regression with a normal prior about 0, and minus the Hessian of its log density there."""

    def loss(beta: Array) -> float:
        eta = x @ beta
        return float(np.logaddexp(0, eta).sum() - y @ eta + 0.5 * (precision * beta**2).sum())

    beta = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(x @ beta)))
        hessian = (x.T * (p * (1 - p))) @ x + np.diag(precision)
        step = np.linalg.solve(hessian, x.T @ (y - p) - precision * beta)
        size = 1.0
        while size > 1e-6 and loss(beta + size * step) > loss(beta):  # Newton's step may go too far
            size /= 2
        beta = beta + size * step
        if np.abs(size * step).max() < 1e-8:
            break
    p = 1 / (1 + np.exp(-(x @ beta)))
    return beta, (x.T * (p * (1 - p))) @ x + np.diag(precision)
