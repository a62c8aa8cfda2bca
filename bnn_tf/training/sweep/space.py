"""Which configurations a sweep consists of: the full grid over its axes, or random draws from them."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bnn_tf.errors import UsageError

_DIGITS = 4  # of a drawn number: no recipe needs more, and tables stay readable
_PLAIN = (str, int, float, bool, type(None))  # what Optuna stores as it is


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both included; whole numbers if both bounds are.

    Args:
        low: Lower bound.
        high: Upper bound.
        log: Draw the logarithm uniformly instead of the number.

    Raises:
        UsageError: the bounds are in the wrong order, or not positive where `log` needs it.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise UsageError(f"{self} must go from a lower to a higher number")
        if self.log and self.low <= 0:
            raise UsageError(f"{self}: a logarithmic range needs positive bounds")

    def __str__(self) -> str:
        return f"{self.low}..{self.high}" + (":log" if self.log else "")

    def distribution(self) -> FloatDistribution | IntDistribution:
        """The range in Optuna's terms."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def rounded(self, number: float) -> float:
        """A drawn number with few digits, still within the bounds."""
        if isinstance(number, int):
            return number
        return min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high)


Axis = Range | Sequence[Any]


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the axes' values; a single empty one without axes."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def draw(axes: Mapping[str, Axis], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` different configurations, drawn independently along each axis by Optuna's random sampler.

    Raises:
        UsageError: the axes do not have so many.
    """
    distributions = {key: _indices(axis) for key, axis in axes.items()}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found: dict[str, dict[str, Any]] = {}
    for _ in range(100 * count):
        drawn = study.ask(distributions).params
        choices = {key: _choice(axis, drawn[key]) for key, axis in axes.items()}
        found.setdefault(json.dumps(choices), choices)
        if len(found) == count:
            return list(found.values())
    raise UsageError(f"--random {count}: there are only {len(found)} different configurations to draw")


def _indices(axis: Axis) -> BaseDistribution:
    return axis.distribution() if isinstance(axis, Range) else IntDistribution(0, len(axis) - 1)


def _choice(axis: Axis, drawn: Any) -> Any:
    return axis.rounded(drawn) if isinstance(axis, Range) else axis[drawn]


def distribution(axis: Axis) -> BaseDistribution:
    """The axis as Optuna's tools show it."""
    if isinstance(axis, Range):
        return axis.distribution()
    return CategoricalDistribution([plain(value) for value in axis])


def plain(value: Any) -> Any:
    """The value, or its JSON text if it is a list."""
    return value if isinstance(value, _PLAIN) else json.dumps(value)
