"""Sweeps: many runs that differ in settings and seeds, shared by any number of processes.

sweep.json        what was asked for, and the trainings, each with its configuration
runs/NAME/        a run directory per configuration and seed; its own lock says who trains it
runs/NAME.failed  why a training failed

There is no other state: whether a training is complete is what its run directory says, so that a killed
process loses nothing but the steps since its run's last checkpoint.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn_tf import files
from bnn_tf._tensorflow import lazy, tf
from bnn_tf.errors import AdvisingError, UnsafeModelError, UsageError, UserError, first_line
from bnn_tf.training.run import ClaimedError, Run, RunConfig
from bnn_tf.values import InNotebooks

if TYPE_CHECKING:
    from bnn_tf.training import trainer
else:
    trainer = lazy("bnn_tf.training.trainer")  # planning a sweep needs no TensorFlow


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

    def draw(self, generator: random.Random) -> float:
        """A number; four digits of it, so that tables stay readable."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if whole and not self.log:
            return generator.randint(int(self.low), int(self.high))
        if self.log:
            number = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            number = generator.uniform(self.low, self.high)
        number = round(number) if whole else float(f"{number:.4g}")
        return min(max(number, self.low), self.high)


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the axes' values; a single empty one without axes.

    Example:
        >>> grid({"a": [1, 2], "b": [3]})
        [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def draw(axes: Mapping[str, Range | Sequence[Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` different configurations, drawn independently along each axis.

    Raises:
        UsageError: the axes have fewer combinations.
    """
    generator = random.Random(seed)
    chosen: dict[str, dict[str, Any]] = {}
    for _ in range(100 * count):
        choices = {
            key: axis.draw(generator) if isinstance(axis, Range) else generator.choice(axis)
            for key, axis in axes.items()
        }
        chosen.setdefault(json.dumps(choices), choices)
        if len(chosen) == count:
            return list(chosen.values())
    raise UsageError(f"{count} configurations cannot be drawn: there are only {len(chosen)} different ones")


def as_text(value: Any) -> str:
    """A value as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def describe(choices: Mapping[str, Any]) -> str:
    """`KEY=VALUE` of each choice."""
    return " ".join(f"{key}={as_text(value)}" for key, value in choices.items())


@dataclasses.dataclass(frozen=True)
class Task:
    """One training of a sweep.

    Args:
        number: Of the configuration, from 1.
        choices: What tells the configuration from the others: its value on each axis.
        config: The run, seed included.
    """

    number: int
    choices: dict[str, Any]
    config: RunConfig

    @property
    def name(self) -> str:
        """Of its run directory."""
        return f"{self.number:03d}-seed{self.config.seed}"

    def __str__(self) -> str:
        return f"{describe(self.choices)} seed {self.config.seed}".lstrip()


@dataclasses.dataclass(frozen=True)
class Outcome(InNotebooks):
    """Where a task stands.

    Args:
        task: The task.
        run_dir: Its run directory, which exists once it was started.
        state: `complete`, `running`, `waiting` (also where its process died), or `failed`.
        result: Once complete, the shares of held-out images that were right: `top1`, and mostly `top5`.
        error: Why it failed.
        seconds: How long it took in this process, if it has just ended here.
    """

    task: Task
    run_dir: Path
    state: str
    result: dict[str, float] | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def finding(self) -> str:
        """Its accuracy, or why it failed; empty before either is known."""
        return self.error or ("" if self.result is None else f"test accuracy {self.result['top1']:.2%}")

    def __str__(self) -> str:
        return ", ".join(filter(None, [f"{self.task}: {self.state}", self.finding]))


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
        UserError: a configuration is impossible, or is the same as another.
    """
    configs: list[RunConfig] = []
    for choices in configurations:
        try:
            config = configure(choices).located()
        except UserError as error:
            if choices:
                error.args = (f"{describe(choices)}: {error}",)
            raise
        if config in configs:
            same = describe(configurations[configs.index(config)])
            raise UsageError(
                f"the sweep has a configuration twice: {same} is the same as {describe(choices)}"
            )
        configs.append(config)
    return [
        Task(number, choices, dataclasses.replace(config, seed=seed))
        for seed in seeds
        for number, (choices, config) in enumerate(zip(configurations, configs, strict=True), 1)
    ]


class Sweep:
    """A sweep directory.

    Args:
        path: The directory.
        definition: What was asked for, as plain values.
        tasks: The trainings, in the order in which to train them.
    """

    def __init__(self, path: Path, definition: Mapping[str, Any], tasks: Sequence[Task]) -> None:
        self.path, self.definition, self.tasks = path, definition, list(tasks)

    @classmethod
    def start(
        cls, path: str | os.PathLike, definition: Mapping[str, Any], make: Callable[[], Sequence[Task]]
    ) -> Sweep:
        """Makes a sweep, or opens the one that is there.

        Args:
            path: Its directory.
            definition: What was asked for, as plain values.
            make: Gives the tasks; called only for a new sweep.

        Raises:
            UserError: the directory holds something else, or another sweep, or cannot be made.
        """
        folder = Path(path)
        wanted = json.loads(json.dumps(definition))
        stored = folder / "sweep.json"
        if not stored.is_file():
            if folder.is_dir() and not {entry.name for entry in folder.iterdir()} <= {"runs", "sweep.lock"}:
                raise UserError(f"{folder} is not empty and holds no sweep; name another folder")
            plain = [{"number": t.number, "choices": t.choices, "config": t.config.to_dict()} for t in make()]
            files.make_folder(folder / "runs")
            with files.locked(folder / "sweep.lock", f"another process makes the sweep {folder}; try again"):
                if not stored.is_file():
                    content = json.dumps({"definition": wanted, "tasks": plain}, indent=1)
                    files.write_text(stored, content + "\n")
        sweep = cls.open(folder)
        for key in {**sweep.definition, **wanted}:
            there, here = sweep.definition.get(key), wanted.get(key)
            if there != here:
                raise UsageError(
                    f"{folder} holds another sweep: {key} is {json.dumps(there)} there and "
                    f"{json.dumps(here)} here; resume that one, or name another folder"
                )
        return sweep

    @classmethod
    def open(cls, path: str | os.PathLike) -> Sweep:
        """An existing sweep.

        Raises:
            UserError: there is none at `path`, or its file cannot be read.
        """
        folder = Path(path)
        stored = folder / "sweep.json"
        if not stored.is_file():
            raise UserError(f"there is no sweep in {folder}: it has no sweep.json")
        try:
            content = json.loads(stored.read_text())
            tasks = [
                Task(int(task["number"]), dict(task["choices"]), RunConfig.from_dict(task["config"]))
                for task in content["tasks"]
            ]
            return cls(folder, dict(content["definition"]), tasks)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{stored} cannot be read: {first_line(error)}") from error

    def run_path(self, task: Task) -> Path:
        """The run directory of a task."""
        return self.path / "runs" / task.name

    def _failure(self, task: Task) -> Path:
        return self.path / "runs" / f"{task.name}.failed"

    def outcome(self, task: Task) -> Outcome:
        """Where a task stands, as its run directory says."""
        path, failure = self.run_path(task), self._failure(task)
        if failure.is_file():
            return Outcome(task, path, "failed", error=failure.read_text(errors="replace").strip())
        if not Run.exists(path):
            return Outcome(task, path, "waiting")
        try:
            run = Run.open(path)
        except UserError as error:  # a damaged run is one training, and not the sweep
            if isinstance(error, AdvisingError) or isinstance(error.__cause__, (AdvisingError, OSError)):
                raise  # nothing is wrong with its files
            return Outcome(task, path, "failed", error=f"{error}; remove {path} to train it again")
        last = trainer.last_evaluation(run) if run.reached() == run.end else None
        if last is not None:
            shares = {"top1": last.top1, "top5": last.top5}
            result = {name: round(share, 6) for name, share in shares.items() if share is not None}
            return Outcome(task, path, "complete", result)
        return Outcome(task, path, "running" if run.is_claimed() else "waiting")

    def outcomes(self) -> list[Outcome]:
        """Where each task stands, in the order in which they were planned."""
        return [self.outcome(task) for task in self.tasks]

    def work(self, session: trainer.Session, moved: Mapping[str, Any]) -> Iterator[Outcome]:
        """Trains tasks until none waits; those that failed earlier are tried once more.

        A task that fails is recorded, and the next one begins. Whatever ends this process, its task can be
        taken up again after its last checkpoint. Tasks that were begun come last, so that one that kills its
        process cannot stop the others.

        Args:
            session: How to run.
            moved: Fields of the configurations that are different here (`data_dir`, `workers`).
        """
        for task in self.tasks:
            self._failure(task).unlink(missing_ok=True)
        tried: set[str] = set()
        while True:
            waiting = [o.task for o in self.outcomes() if o.state == "waiting" and o.task.name not in tried]
            if not waiting:
                return
            task = min(waiting, key=lambda one: Run.exists(self.run_path(one)))
            tried.add(task.name)
            started = time.monotonic()
            try:
                self._train(task, session, moved)
            except ClaimedError:
                continue
            except (trainer.StoppedError, KeyboardInterrupt):
                raise
            except Exception as error:  # must not end a sweep that runs for days
                message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                if isinstance(error, UnsafeModelError):  # commands and programs trust files in their own ways
                    message = error.reason
                files.write_text(self._failure(task), message + "\n")
            finally:
                # Keras keeps the graphs and counts the layers of all networks that a process builds.
                tf.keras.backend.clear_session()
                gc.collect()
            yield dataclasses.replace(self.outcome(task), seconds=time.monotonic() - started)

    def _train(self, task: Task, session: trainer.Session, moved: Mapping[str, Any]) -> None:
        """Trains what is left of a task's run."""
        path, prepared = self.run_path(task), None
        if Run.exists(path):
            run = Run(path, dataclasses.replace(Run.open(path).config, **moved))
        else:
            prepared = trainer.prepare(dataclasses.replace(task.config, **moved), session)
            with files.locked(self.path / "sweep.lock", "another process begins a training"):
                if Run.exists(path):
                    raise ClaimedError(f"another process trains {path}")
                run = Run.create(prepared.config, path)
        trainer.train(run, session, prepared)


@dataclasses.dataclass(frozen=True)
class Summary(InNotebooks):
    """A configuration over its seeds.

    Args:
        choices: What tells it from the others.
        outcomes: One for each seed.
    """

    choices: dict[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def accuracies(self) -> list[float]:
        """Top-1 share of each complete run, on the held-out images after its last epoch."""
        return [outcome.result["top1"] for outcome in self.outcomes if outcome.result is not None]

    @property
    def mean(self) -> float | None:
        """Of the accuracies; `None` without any."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n − 1) of the accuracies; `None` of fewer than two."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def accuracy(self) -> str:
        """Mean ± deviation in percent, as people read it."""
        if self.mean is None:
            return "–"
        spread = "" if self.deviation is None else f" ± {100 * self.deviation:.2f}"
        return f"{100 * self.mean:.2f}{spread} %"

    def __str__(self) -> str:
        lines = [describe(self.choices), *map(str, self.outcomes)]
        if self.accuracies:
            lines.append(f"test accuracy {self.accuracy}, n = {len(self.accuracies)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        runs = [
            {
                "seed": outcome.task.config.seed,
                "state": outcome.state,
                "run_dir": str(outcome.run_dir),
                **(outcome.result or {}),
                **({"error": outcome.error} if outcome.error else {}),
            }
            for outcome in self.outcomes
        ]
        figures = {"mean": self.mean, "standard_deviation": self.deviation, "n": len(self.accuracies)}
        return {"choices": self.choices, **figures, "runs": runs}


def summarize(outcomes: Iterable[Outcome]) -> list[Summary]:
    """The configurations, best mean first, those without results last."""
    groups: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.task.number, []).append(outcome)
    summaries = [Summary(group[0].task.choices, tuple(group)) for group in groups.values()]
    return sorted(summaries, key=lambda summary: (summary.mean is None, -(summary.mean or 0.0)))


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many tasks are in each state."""
    states = ("complete", "running", "waiting", "failed")
    return {state: sum(outcome.state == state for outcome in outcomes) for state in states}
