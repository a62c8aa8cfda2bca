"""Learning rates and ReCU's τ as functions of the epoch, and as values that a recipe holds.

`epoch` counts from 0, `epochs` is how many there are in all. The functions are pure: they return a float and
keep no state, so a resumed run continues where it stopped. `Cosine`, `Linear`, `MultiStep` and `Constant` are
the same as frozen values that check themselves and are called with `(epoch, epochs, learning_rate)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from bnn_tf import values
from bnn_tf.errors import UsageError
from bnn_tf.registry import Registry
from bnn_tf.values import NotNegative, Range, Value


def recu_tau(epoch: int, epochs: int, tau_min: float = 0.85, tau_max: float = 0.99) -> float:
    """ReCU's clamp quantile: `τ(e) = A·exp(e/E) + B` with `A = (τ_max - τ_min)/(e¹ - 1)`, `B = τ_min - A`.

    Starts at `tau_min`; `tau_max` would be reached at epoch E, one after the last (ReCU, eq. 15).

    Example:
        >>> [round(recu_tau(epoch, 3), 4) for epoch in range(3)]
        [0.85, 0.8822, 0.9272]
    """
    a = (tau_max - tau_min) / (math.e - 1)
    return a * math.exp(epoch / epochs) + tau_min - a


def constant(epoch: int, epochs: int, learning_rate: float, warmup: int = 0) -> float:
    """`learning_rate` throughout, after `warmup` epochs of `learning_rate·(e+1)/warmup`.

    Example:
        >>> [constant(epoch, 3, 1.0, warmup=2) for epoch in range(3)]
        [0.5, 1.0, 1.0]
    """
    return learning_rate * min(1.0, (epoch + 1) / max(warmup, 1))


def warmup_cosine(
    epoch: int,
    epochs: int,
    learning_rate: float,
    warmup: int = 5,
    cosine_start: int | None = None,
    floor: float = 0.0,
) -> float:
    """Linear warm-up, then half a cosine down to `floor`.

    Epochs `e < warmup` run at `learning_rate·(e+1)/warmup`, later ones at
    `learning_rate/2 · (1 + cos(π·(e - s)/(E - s))) + floor`, where `s = cosine_start` is the epoch at
    which the cosine begins. By default it is the last warm-up epoch, which already has the full rate
    (ReCU); OvSW starts it one epoch later, with a floor of 1e-5. Between warm-up and `s` the rate is the full
    one.

    Raises:
        UsageError: the cosine would begin after the last epoch.

    Example:
        >>> [round(warmup_cosine(epoch, 5, 1.0, warmup=2), 2) for epoch in range(5)]
        [0.5, 1.0, 0.85, 0.5, 0.15]
    """
    if epoch < warmup:
        return learning_rate * (epoch + 1) / warmup
    start = max(warmup - 1, 0) if cosine_start is None else cosine_start
    if start >= epochs:
        raise UsageError(f"cosine_start={start} leaves none of {epochs} epochs for the cosine")
    angle = math.pi * max(epoch - start, 0) / (epochs - start)
    return learning_rate / 2 * (1 + math.cos(angle)) + floor


def linear(epoch: int, epochs: int, learning_rate: float, warmup: int = 0, offset: int = 1) -> float:
    """Linear warm-up, then a straight line to 0: `learning_rate · (1 - (e - s + offset)/(E - s))`.

    `s = max(warmup - 1, 0)`. With `offset=1` the rate steps down before each epoch, so that the last
    epoch runs at 0 (Bi-Real Net, SNN); `offset=0` does not waste it.

    Example:
        >>> [linear(epoch, 4, 1.0, offset=0) for epoch in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """
    if epoch < warmup:
        return learning_rate * (epoch + 1) / warmup
    start = max(warmup - 1, 0)
    return learning_rate * max(0.0, 1 - (epoch - start + offset) / (epochs - start))


def multistep(
    epoch: int,
    epochs: int,
    learning_rate: float,
    milestones: Sequence[float] = (),
    factor: float = 0.1,
    warmup: int = 0,
) -> float:
    """Linear warm-up, then `learning_rate · factor^k`, k the number of `milestones` at or before epoch e.

    A milestone is an epoch, or, below 1, a share of all epochs: 0.5 is epoch 10 of 20, and stays in the
    middle of a shorter training.

    Example:
        >>> [multistep(epoch, 4, 1.0, milestones=(0.5,)) for epoch in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """
    if epoch < warmup:
        return learning_rate * (epoch + 1) / warmup
    reached = sum(epoch >= (m * epochs if 0 < m < 1 else m) for m in milestones)
    return learning_rate * factor**reached


SCHEDULES: Registry[type[Schedule]] = Registry("schedule", "bnn_tf.schedules")
"""All schedules by name; installed packages add theirs through the entry point `bnn_tf.schedules`."""


def get(schedule: Schedule | str | Mapping[str, Any], **options: Any) -> Schedule:
    """The schedule that an object, a name with options, or a `get_config` dictionary stands for.

    Raises:
        UsageError: the name or an option is unknown, or a value does not fit.

    Example:
        >>> get("linear", offset=0)
        Linear(warmup=0, offset=0)
    """
    return values.resolve(Schedule, schedule, **options)


@dataclasses.dataclass(frozen=True)
class Schedule(Value):
    """A learning rate that changes from epoch to epoch.

    A subclass is a frozen dataclass with the method `rate`; its fields say how long each part is, relative to
    the part before it, so that changing one moves those that follow.

    Args:
        warmup: Epochs in which the rate rises linearly to the full one. A training that is shorter than its
            warm-up ends on the way up.

    Raises:
        UsageError: a field does not fit, or (when it is called) the parts do not fit into the epochs.

    Example:
        >>> Cosine(warmup=2)(epoch=0, epochs=10, learning_rate=0.1)
        0.05
    """

    kind: ClassVar[str] = "schedule"
    registry: ClassVar[Registry[type[Schedule]]] = SCHEDULES
    warmup: Annotated[int, Range(least=0)] = 0

    def __call__(self, epoch: int, epochs: int, learning_rate: float = 1.0) -> float:
        """The rate of an epoch: with the default of `learning_rate`, the factor of the full rate."""
        self.check(epochs)
        return self.rate(epoch, epochs, learning_rate)

    def check(self, epochs: int) -> None:
        """Raises a UsageError where the schedule cannot run for so many epochs."""
        self.require(epochs >= 1, f"it needs at least one epoch, not {epochs}")

    def rate(self, epoch: int, epochs: int, learning_rate: float) -> float:
        """The rate of an epoch, counted from 0, of `epochs`."""
        raise NotImplementedError


@SCHEDULES.register("constant")
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The full rate throughout, after the warm-up; see `constant`.

    Example:
        >>> [Constant(warmup=2)(epoch, 3) for epoch in range(3)]
        [0.5, 1.0, 1.0]
    """

    name: ClassVar[str] = "constant"

    def rate(self, epoch: int, epochs: int, learning_rate: float) -> float:
        """`constant`."""
        return constant(epoch, epochs, learning_rate, self.warmup)


@SCHEDULES.register("cosine")
@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Warm-up, `delay` epochs at the full rate, then half a cosine down to `floor`; see `warmup_cosine`.

    The last epoch of the warm-up has the full rate already, and the cosine counts from it.

    Args:
        warmup: Epochs of linear warm-up.
        delay: Further epochs at the full rate: 0 for ReCU's schedule, 1 for OvSW's.
        floor: Added to the rates of the cosine, which would otherwise end near 0; not relative to the rate,
            and at most a tenth of it, so that rates do not rise again after the warm-up.

    Raises:
        UsageError: a field does not fit, the delay leaves no epoch for the cosine, or the floor is too high
            for the rate.

    Example:
        >>> [round(Cosine(warmup=2)(epoch, 5), 2) for epoch in range(5)]
        [0.5, 1.0, 0.85, 0.5, 0.15]
    """

    warmup: Annotated[int, Range(least=0)] = 5
    delay: Annotated[int, Range(least=0)] = 0
    floor: NotNegative = 0.0
    name: ClassVar[str] = "cosine"

    def check(self, epochs: int) -> None:
        """Refuses a delay that leaves nothing for the cosine."""
        super().check(epochs)
        if self.delay and epochs > self.warmup:
            self.require(
                self._start < epochs,
                f"warmup={self.warmup} and delay={self.delay} leave none of {epochs} epochs for the cosine",
            )

    def rate(self, epoch: int, epochs: int, learning_rate: float) -> float:
        """`warmup_cosine`."""
        self.require(
            self.floor <= learning_rate / 10,
            f"floor={self.floor:g} is added to the rates, and over a tenth of the full {learning_rate:g}",
        )
        return warmup_cosine(epoch, epochs, learning_rate, self.warmup, self._start, self.floor)

    @property
    def _start(self) -> int:
        return max(self.warmup - 1 + self.delay, 0)


@SCHEDULES.register("linear")
@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """Warm-up, then a straight line to 0; see `linear`.

    Args:
        warmup: Epochs of linear warm-up.
        offset: 1 steps down before each epoch, so that the last one runs at 0 (Bi-Real Net, SNN); 0 does not
            waste it.

    Raises:
        UsageError: a field does not fit, or every epoch would run at 0.

    Example:
        >>> [Linear(offset=0)(epoch, 4) for epoch in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """

    offset: Literal[0, 1] = 1
    name: ClassVar[str] = "linear"

    def check(self, epochs: int) -> None:
        """Refuses a training of one epoch, at 0."""
        super().check(epochs)
        self.require(
            epochs > 1 or self.warmup > 0 or self.offset == 0,
            "with offset=1 the last epoch runs at rate 0, and there is only one; set offset=0",
        )

    def rate(self, epoch: int, epochs: int, learning_rate: float) -> float:
        """`linear`."""
        return linear(epoch, epochs, learning_rate, self.warmup, self.offset)


@SCHEDULES.register("multistep")
@dataclasses.dataclass(frozen=True)
class MultiStep(Schedule):
    """Warm-up, then the full rate times `factor` for every milestone that is reached; see `multistep`.

    Args:
        warmup: Epochs of linear warm-up.
        milestones: When the rate falls, in order: epochs, or below 1 shares of all epochs.
        factor: What each milestone multiplies the rate by.

    Raises:
        UsageError: a field does not fit, milestones are not in order, mix epochs and shares, or lie beyond
            the end.

    Example:
        >>> [MultiStep(milestones=(0.5,))(epoch, 4) for epoch in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """

    milestones: tuple[Annotated[float, Range(above=0)], ...] = (0.5, 0.75)
    factor: Annotated[float, Range(above=0, most=1)] = 0.1
    name: ClassVar[str] = "multistep"

    def __post_init__(self) -> None:
        """Checks the milestones' order."""
        super().__post_init__()
        steps = self.milestones
        self.require(
            all(early < late for early, late in zip(steps, steps[1:], strict=False)),
            f"milestones must rise, not {list(steps)}",
        )
        self.require(
            all(m < 1 for m in steps) or all(m >= 1 and m.is_integer() for m in steps),
            f"milestones must be whole epochs, or all below 1 (shares), not {list(steps)}",
        )
        if steps and steps[0] >= 1:
            self.require(
                steps[0] >= self.warmup,
                f"milestones must come after the warm-up of {self.warmup} epochs, not {list(steps)}",
            )

    def check(self, epochs: int) -> None:
        """Refuses milestones beyond the end."""
        super().check(epochs)
        if self.milestones and self.milestones[-1] >= 1:
            self.require(
                self.milestones[-1] < epochs,
                f"milestones {list(self.milestones)} lie beyond the end of {epochs} epochs; "
                f"shares such as 0.5 fit any length",
            )

    def rate(self, epoch: int, epochs: int, learning_rate: float) -> float:
        """`multistep`."""
        return multistep(epoch, epochs, learning_rate, self.milestones, self.factor, self.warmup)
