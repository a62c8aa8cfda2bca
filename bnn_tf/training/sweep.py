"""Sweeps: many runs that differ in settings and seeds, shared by any number of processes.

sweep.json        the trainings, each with its configuration
runs/NAME/        a run directory per configuration and seed; its own lock says who trains it
runs/NAME.failed  why a training failed

There is no other state: a killed process loses nothing but the steps since its run's last checkpoint.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bnn_tf import files
from bnn_tf._tensorflow import lazy, tf
from bnn_tf.errors import ClaimedError, UnsafeModelError, UsageError, UserError, first_line, some
from bnn_tf.training.run import Run, RunConfig

if TYPE_CHECKING:
    from bnn_tf.training import trainer
else:
    trainer = lazy("bnn_tf.training.trainer")  # planning a sweep needs no TensorFlow

Choices = dict[str, Any]  # what tells a configuration from the others, by key


def grid(axes: Mapping[str, Sequence[Any]]) -> list[Choices]:
    """All combinations of the axes' values; a single empty one without axes."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def draw(axes: Mapping[str, Sequence[Any]], count: int, seed: int) -> list[Choices]:
    """`count` different combinations, of values that are drawn independently along each axis.

    Raises:
        UsageError: the axes have fewer combinations.
    """
    generator = random.Random(seed)
    chosen: dict[str, Choices] = {}
    for _ in range(100 * count):
        choices = {key: generator.choice(values) for key, values in axes.items()}
        chosen.setdefault(describe(choices), choices)
        if len(chosen) == count:
            return list(chosen.values())
    raise UsageError(f"{count} configurations cannot be drawn: there are only {len(chosen)} different ones")


def describe(choices: Choices) -> str:
    """`KEY=VALUE` of each choice."""
    return " ".join(f"{key}={value}" for key, value in choices.items())


class Task(NamedTuple):
    """One training of the sweep in `folder`: of configuration `number`, counted from 1, with one seed."""

    folder: Path
    number: int
    choices: Choices
    config: RunConfig

    @property
    def path(self) -> Path:
        """Its run directory."""
        return self.folder / "runs" / f"{self.number:03d}-seed{self.config.seed}"

    @property
    def failure(self) -> Path:
        """The file that says why it failed."""
        return self.path.with_suffix(".failed")

    def __str__(self) -> str:
        return f"{describe(self.choices)} seed {self.config.seed}".lstrip()

    def outcome(self) -> dict[str, Any]:
        """Where it stands, as its run directory says: its `seed`, `state` and `run_dir`.

        The state is `complete`, with the shares of held-out images that were right as `top1` and mostly
        `top5`; `running`; `waiting`, also where its process died; or `failed`, with an `error` that says why.
        """
        outcome = {"seed": self.config.seed, "state": "waiting", "run_dir": str(self.path)}
        if self.failure.is_file():
            error = self.failure.read_text(errors="replace").strip()
            return {**outcome, "state": "failed", "error": error}
        if not Run.exists(self.path):
            return outcome
        try:
            run = Run.open(self.path)
        except UserError as error:  # a damaged run is one training, and not the sweep
            if isinstance(error.__cause__, OSError):
                raise  # nothing is wrong with its files
            return {**outcome, "state": "failed", "error": f"{error}; remove {self.path} to train it again"}
        last = trainer.last_evaluation(run) if run.reached() == run.end else None
        if last is None:
            return {**outcome, "state": "running" if run.is_claimed() else "waiting"}
        top5 = {} if last.top5 is None else {"top5": round(last.top5, 6)}
        return {**outcome, "state": "complete", "top1": last.top1, **top5}

    def train(self, session: trainer.Session, moved: Mapping[str, Any]) -> None:
        """Trains what is left of its run, whose fields in `moved` are different here."""
        if Run.exists(self.path):
            run, prepared = Run(self.path, replace(Run.open(self.path).config, **moved)), None
        else:
            prepared = trainer.prepare(replace(self.config, **moved), session)
            with files.locked(self.folder / "sweep.json", "another process begins a training"):
                if Run.exists(self.path):
                    raise ClaimedError(f"another process trains {self.path}")
                run = Run.create(prepared.config, self.path)
        trainer.train(run, session, prepared)


def plan(
    folder: Path, configurations: list[Choices], seeds: list[int], configure: Callable[[Choices], RunConfig]
) -> list[Task]:
    """All tasks, seed by seed, so that each configuration has a first result early.

    Raises:
        UserError: a configuration is impossible, or is the same as another.
    """
    tasks: list[Task] = []
    for number, choices in enumerate(configurations, 1):
        try:
            config = configure(choices).located()
        except UserError as error:
            error.args = (f"{describe(choices)}: {error}".removeprefix(": "),)
            raise
        if same := [task.choices for task in tasks if task.config == config]:
            twice = f"{describe(same[0])} is the same as {describe(choices)}"
            raise UsageError(f"the sweep has a configuration twice: {twice}")
        tasks.append(Task(folder, number, choices, config))
    return [t._replace(config=replace(t.config, seed=seed)) for seed in seeds for t in tasks]


def start(tasks: list[Task]) -> list[Task]:
    """The tasks of the sweep in their folder, which is made of these unless it was made before.

    Raises:
        UserError: the folder holds something else, or tasks that differ in more than where they run.
    """
    folder, stored = tasks[0].folder, tasks[0].folder / "sweep.json"
    if not stored.is_file():
        names = {entry.name for entry in folder.glob("*") if entry.suffix != files.TEMPORARY}
        if names - {"runs", "sweep.json"}:  # another process may just have written it
            raise UserError(f"{folder} is not empty and holds no sweep; name another folder")
        files.make_folder(folder / "runs")
        plain = [{"number": t.number, "choices": t.choices, "config": t.config.to_dict()} for t in tasks]
        files.write_text(stored, json.dumps({"tasks": plain}, indent=1) + "\n")
    known = load(folder)
    here: dict[str, Any] = {"data_dir": None, "workers": None}  # may be others each time
    if [replace(task.config, **here) for task in known] != [replace(task.config, **here) for task in tasks]:
        listed = some(map(str, known), 3)
        raise UsageError(f"{folder} holds another sweep ({listed}); resume that one, or name another folder")
    return known


def load(folder: Path) -> list[Task]:
    """The tasks of the sweep in a folder, in the order in which to train them.

    Raises:
        UserError: there is no sweep, or its file cannot be read.
    """
    stored = folder / "sweep.json"
    if not stored.is_file():
        raise UserError(f"there is no sweep in {folder}: it has no sweep.json")
    try:
        tasks = [
            Task(folder, int(one["number"]), dict(one["choices"]), RunConfig.from_dict(one["config"]))
            for one in json.loads(stored.read_text())["tasks"]
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{stored} cannot be read: {first_line(error)}") from error
    if tasks:
        return tasks
    raise UserError(f"{stored} names no trainings")


def work(tasks: list[Task], session: trainer.Session, moved: Mapping[str, Any]) -> Iterator[Task]:
    """Trains tasks until none waits, and yields each; those that failed earlier are tried once more.

    A task that fails is recorded, and the next one begins. Tasks that were begun come last, so that one that
    kills its process cannot stop the others.
    """
    for task in tasks:
        task.failure.unlink(missing_ok=True)
    untried = list(tasks)
    while waiting := [task for task in untried if task.outcome()["state"] == "waiting"]:
        task = min(waiting, key=lambda one: Run.exists(one.path))
        untried.remove(task)
        try:
            task.train(session, moved)
        except ClaimedError:
            continue
        except trainer.StoppedError:
            raise
        except Exception as error:  # must not end a sweep that runs for days
            message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            if isinstance(error, UnsafeModelError):  # commands and programs trust files in their own ways
                message = error.reason
            files.write_text(task.failure, message + "\n")
        finally:
            # Keras keeps the graphs and counts the layers of all networks that a process builds.
            tf.keras.backend.clear_session()
            gc.collect()
        yield task


def counts(tasks: list[Task]) -> dict[str, int]:
    """How many tasks are in each state."""
    states = [task.outcome()["state"] for task in tasks]
    return {state: states.count(state) for state in ("complete", "running", "waiting", "failed")}


def summaries(tasks: list[Task]) -> list[dict[str, Any]]:
    """Each configuration over its seeds, the best mean first, those without results last.

    `mean`, `standard_deviation` (n - 1) and `n` are of complete runs' top-1; `runs` has all outcomes.
    """
    found: list[dict[str, Any]] = []
    for number, choices in {task.number: task.choices for task in tasks}.items():
        runs = [task.outcome() for task in tasks if task.number == number]
        top1 = [run["top1"] for run in runs if "top1" in run]
        mean = statistics.fmean(top1) if top1 else None
        deviation = statistics.stdev(top1) if len(top1) > 1 else None
        figures = {"mean": mean, "standard_deviation": deviation, "n": len(top1)}
        found.append({"choices": choices, **figures, "runs": runs})
    return sorted(found, key=lambda one: (one["mean"] is None, -(one["mean"] or 0.0)))
