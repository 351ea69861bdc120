"""The finite-sample guarantee behind the escalation threshold: learn-then-test with an exact paired test.

For one example let L = 1{cascade wrong} − 1{teacher wrong}, in {−1, 0, 1}. For each threshold the null
hypothesis is E[L] > ε (the cascade is worse than the teacher by more than ε). Thresholds are tested in an
order fixed before the data is seen, from the one that escalates most to the one that escalates least, and
testing stops at the first that is not rejected: the family-wise error is then at most δ without further
correction (fixed-sequence testing; Angelopoulos, Bates, Candès, Jordan, Lei 2021, "Learn then test",
arXiv:2110.01052, §2.3).

The p-value. E[L] = p − q with p = P(L = 1), q = P(L = −1): non-inferiority of paired proportions, where q
is a nuisance. q is confined to a Clopper–Pearson interval C of confidence 1 − γ, the tail is maximised over
C, and γ is added (Berger and Boos 1994, JASA 89:1012): valid whatever q is. Outcomes are ordered by the
score statistic z(a, b) = (a − b − nε) / sqrt(n(p̂ + q̂ − ε²)), with p̂, q̂ the maximum-likelihood estimates
under p − q = ε (Nam 1997, Biometrics 53:1422), so that few disagreements count for as much as they are
worth. The region {z ≤ z₀} grows with b and shrinks with a, so the tail is largest where p − q = ε exactly
(Berger and Sidik 2003, Stat. Methods Med. Res. 12:91), and one dimension is left to search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log, log1p
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import beta, binom

Array = npt.NDArray[Any]

# The grid over q misses its maximum by less than this factor (the tail is smooth over a tenth of q's
# deviation).
GRID_SLACK = 1.01
GRID_POINTS = 48
NEGLIGIBLE = 1e-9


@dataclass(frozen=True, slots=True)
class Tested:
    """One threshold's test: `worse` examples where only the cascade errs, `better` where only the teacher
    does.
    """

    threshold: float
    worse: int
    better: int
    p_value: float
    rejected: bool


def least_examples(epsilon: float, delta: float) -> int:
    """The fewest examples with which any threshold can pass: n with (1 − ε)^n ≤ δ(1 − γ share), no
    disagreement.
    """
    return ceil(log(delta * (1 - NUISANCE_SHARE) / GRID_SLACK) / log1p(-epsilon))


# Of δ, the share spent on the nuisance's confidence interval.
NUISANCE_SHARE = 0.02


@lru_cache(maxsize=65536)
def p_value(worse: int, better: int, examples: int, epsilon: float, delta: float = 0.05) -> float:
    """P-value of H: P(L = 1) − P(L = −1) > epsilon, from counts; see the module's text.

    Raises ValueError unless 0 ≤ worse + better ≤ examples and 0 < epsilon < 1.
    """
    if not (0 < epsilon < 1 and worse >= 0 and better >= 0 and worse + better <= examples and examples > 0):
        raise ValueError(f"counts {worse}, {better} of {examples} at epsilon {epsilon}")
    gamma = delta * NUISANCE_SHARE
    low = float(beta.ppf(gamma / 2, better, examples - better + 1)) if better else 0.0
    high = float(beta.ppf(1 - gamma / 2, better + 1, examples - better)) if better < examples else 1.0
    high = min(high, (1 - epsilon) / 2)
    low = min(low, high)
    grid = np.linspace(np.sqrt(low), np.sqrt(high), GRID_POINTS) ** 2
    region = _Region(examples, epsilon, high, worse, better)
    tail = max(region.probability(float(q)) for q in grid)
    return float(min(1.0, GRID_SLACK * (tail + 2 * NEGLIGIBLE) + gamma))


class _Region:
    """The outcomes (a, b) at least as favourable as the one seen, as far out as any carries weight."""

    def __init__(self, examples: int, epsilon: float, q_high: float, worse: int, better: int) -> None:
        self.examples, self.epsilon = examples, epsilon
        a_max = int(binom.isf(NEGLIGIBLE, examples, min(1.0, epsilon + q_high))) + 1
        b_max = int(binom.isf(NEGLIGIBLE, examples, q_high)) + 1
        a, b = np.arange(min(a_max, examples) + 1)[:, None], np.arange(min(b_max, examples) + 1)[None, :]
        seen = float(score(np.array(worse), np.array(better), examples, epsilon))
        inside = (score(a, b, examples, epsilon) <= seen + 1e-9) & (a + b <= examples)
        self.a, self.b = (index.astype(np.float64) for index in np.nonzero(inside))
        rest = examples - self.a - self.b
        self.log_ways = gammaln(examples + 1) - gammaln(self.a + 1) - gammaln(self.b + 1) - gammaln(rest + 1)
        self.rest = rest

    def probability(self, q: float) -> float:
        """P((A, B) in the region) for P(L = −1) = q and P(L = 1) = q + epsilon."""
        p = q + self.epsilon
        with np.errstate(divide="ignore"):
            log_q, log_zero = np.log(q), np.log(max(0.0, 1 - p - q))
        terms = self.log_ways + self.a * np.log(p) + _times(self.b, log_q) + _times(self.rest, log_zero)
        return float(np.exp(terms).sum())


def _times(count: Array, logarithm: float) -> Array:
    """count · logarithm with 0 · (−∞) = 0."""
    if np.isfinite(logarithm):
        return count * logarithm
    return np.where(count == 0, 0.0, -np.inf)


def score(worse: Array, better: Array, examples: int, epsilon: float) -> Array:
    """The score statistic z for p − q = epsilon; small means that the cascade is not worse by epsilon.

    q̂ solves 2n·q² + (a + b)(…) = 0, the likelihood equation under the constraint (Nam 1997, eq. 4):
    q̂ = (−B + sqrt(B² − 4AC)) / 2A with A = 2n, B = −(a + b) + (2n − a + b)ε, C = −bε(1 − ε).
    """
    n = float(examples)
    first = -(worse + better) + (2 * n - worse + better) * epsilon
    last = -better * epsilon * (1 - epsilon)
    q_hat = (-first + np.sqrt(np.maximum(first**2 - 8 * n * last, 0.0))) / (4 * n)
    variance = np.maximum(n * (2 * q_hat + epsilon - epsilon**2), 1e-12)
    result: Array = (worse - better - n * epsilon) / np.sqrt(variance)
    return result


def fixed_sequence(
    thresholds: Sequence[float],
    worse: Sequence[int],
    better: Sequence[int],
    examples: int,
    epsilon: float,
    delta: float,
) -> tuple[Tested, ...]:
    """Test thresholds in the order given and stop at the first that is not rejected (it is the last
    returned).
    """
    done: list[Tested] = []
    for threshold, a, b in zip(thresholds, worse, better, strict=True):
        p = p_value(int(a), int(b), examples, epsilon, delta)
        done.append(Tested(float(threshold), int(a), int(b), p, p <= delta))
        if p > delta:
            break
    return tuple(done)
