"""Learning rates and ReCU's τ as pure functions of the epoch.

`epoch` counts from 0, `epochs` is how many there are in all. Every function returns a float and keeps
no state, so a resumed run continues where it stopped. `get` makes one out of a name and options.
"""

import functools
import math
from collections.abc import Callable, Sequence

from bnn_tf.errors import unknown

Schedule = Callable[[int, int], float]


def recu_tau(epoch: int, epochs: int, tau_min: float = 0.85, tau_max: float = 0.99) -> float:
    """ReCU's clamp quantile: `τ(e) = A·exp(e/E) + B` with `A = (τ_max - τ_min)/(e¹ - 1)`, `B = τ_min - A`.

    Starts at `tau_min`; `tau_max` would be reached at epoch E, one after the last (ReCU, eq. 15).
    """
    a = (tau_max - tau_min) / (math.e - 1)
    return a * math.exp(epoch / epochs) + tau_min - a


def constant(epoch: int, epochs: int, learning_rate: float, warmup: int = 0) -> float:
    """`learning_rate` throughout, after `warmup` epochs of `learning_rate·(e+1)/warmup`."""
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
    (ReCU); OvSW starts it one epoch later, with a floor of 1e-5.
    """
    if epoch < warmup:
        return learning_rate * (epoch + 1) / warmup
    start = max(warmup - 1, 0) if cosine_start is None else cosine_start
    return learning_rate / 2 * (1 + math.cos(math.pi * (epoch - start) / (epochs - start))) + floor


def linear(epoch: int, epochs: int, learning_rate: float, warmup: int = 0, offset: int = 1) -> float:
    """Linear warm-up, then a straight line to 0: `learning_rate · (1 - (e - s + offset)/(E - s))`.

    `s = max(warmup - 1, 0)`. With `offset=1` the rate steps down before each epoch, so that the last
    epoch runs at 0 (Bi-Real Net, SNN); `offset=0` does not waste it.
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
    """
    if epoch < warmup:
        return learning_rate * (epoch + 1) / warmup
    reached = sum(epoch >= (m * epochs if 0 < m < 1 else m) for m in milestones)
    return learning_rate * factor**reached


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": warmup_cosine,
    "linear": linear,
    "multistep": multistep,
}


def get(name: str, **options: object) -> Schedule:
    """The schedule called `name` with its options bound: a function of `(epoch, epochs)`.

    Raises:
        UsageError: there is no such schedule.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    return functools.partial(SCHEDULES[name], **options)
