"""What a process does in a sweep: plan the tasks, and train those that no other process has."""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import checks
from bnn_tf.training.run import Run, RunConfig
from bnn_tf.training.sweep.study import Claim, Outcome, Sweep, Task, describe
from bnn_tf.training.trainer import Session, train

# Of the result, in metrics.csv; its numbers were computed in float32.
_FIGURES = {"top1": "val_accuracy", "top5": "val_top5_accuracy"}
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Finished:
    """A task that this process has just finished.

    Args:
        outcome: How it ended.
        seconds: How long it took here.
        resumed_epochs: Epochs that were complete before.
        left: Seconds until the sweep is through, as far as can be told; `None` if that is now.
    """

    outcome: Outcome
    seconds: float
    resumed_epochs: int
    left: float | None


def plan(
    configurations: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    configure: Callable[[dict[str, Any]], RunConfig],
) -> list[Task]:
    """All tasks, seed by seed, so that each configuration has a first result early.

    Args:
        configurations: The choices of each.
        seeds: Seeds of each configuration.
        configure: Gives the run of choices, apart from its seed.

    Raises:
        UserError: a configuration cannot be trained, or is the same as another.
    """
    configs = [_checked(choices, configure) for choices in configurations]
    for index, config in enumerate(configs):
        if config in configs[:index]:
            pair = (configurations[configs.index(config)], configurations[index])
            one, other = (" ".join(describe(choices)) for choices in pair)
            raise UsageError(f"the sweep has a configuration twice: {one} is the same as {other}")
    return [
        Task(number, choices, dataclasses.replace(config, seed=seed))
        for seed in seeds
        for number, (choices, config) in enumerate(zip(configurations, configs, strict=True), 1)
    ]


def _checked(choices: dict[str, Any], configure: Callable[[dict[str, Any]], RunConfig]) -> RunConfig:
    try:
        return checks.checked(configure(choices))
    except UserError as error:
        kind = UsageError if isinstance(error, UsageError) else UserError
        raise kind(": ".join(filter(None, [" ".join(describe(choices)), str(error)]))) from error
    finally:
        tf.keras.backend.clear_session()


def work(sweep: Sweep, session: Session, moved: Mapping[str, Any]) -> Iterator[Finished]:
    """Trains tasks until none waits; those that failed earlier are tried once more.

    A task that fails is recorded, and the next one begins. Whatever ends this process, its task can be
    taken up again after the last complete epoch.

    Args:
        sweep: The sweep.
        session: How to run.
        moved: See `Sweep.open_run`.
    """
    sweep.retry_failed()
    seconds, epochs = 0.0, 0
    while (claim := sweep.claim()) is not None:
        started = time.monotonic()
        with claim.lock:
            outcome, before = _attempt(sweep, claim, session, moved)
        took = time.monotonic() - started
        if outcome.state == "complete":
            seconds, epochs = seconds + took, epochs + claim.task.config.recipe.epochs - before
        rate = seconds / epochs if epochs else None
        yield Finished(outcome, took, before, _time_left(sweep.outcomes(), rate))


def _attempt(sweep: Sweep, claim: Claim, session: Session, moved: Mapping[str, Any]) -> tuple[Outcome, int]:
    """Trains a task; gives how that ended and how many epochs were complete before."""
    before = 0
    try:
        run = sweep.open_run(claim.task, **moved)
        before = _epochs_done(run)
        result = train_run(run, session)
    except Exception as error:  # must not end a sweep that runs for days
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return sweep.fail(claim, message), before
    return sweep.finish(claim, result), before


def train_run(run: Run, session: Session) -> dict[str, float]:
    """Trains what is left of a run; gives its shares of right answers on the held-out images."""
    try:
        train(run, session)
    finally:
        # Keras keeps the graphs and counts the layers of all networks that a process builds.
        tf.keras.backend.clear_session()
        gc.collect()
    last = run.metrics()[-1]
    return {
        name: round(float(last[column]), _DIGITS) for name, column in _FIGURES.items() if last.get(column)
    }


def _epochs_done(run: Run) -> int:
    phase, done = run.position() or (0, 0)
    return sum(earlier.epochs for earlier in run.config.recipe.phases[:phase]) + done


def _time_left(outcomes: Sequence[Outcome], seconds_per_epoch: float | None) -> float | None:
    """At the pace of this process, by it and those at work now."""
    left = [outcome for outcome in outcomes if outcome.state in ("waiting", "running")]
    workers = 1 + sum(outcome.state == "running" for outcome in left)
    if not left or seconds_per_epoch is None:
        return None
    epochs = sum(outcome.task.config.recipe.epochs for outcome in left)
    return seconds_per_epoch * epochs / min(workers, len(left))
