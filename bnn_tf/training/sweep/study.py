"""Sweep directories: runs that differ in settings and seeds, shared by any number of processes.

sweep.db     Optuna's study, with a trial per configuration and seed
sweep.lock   held while a process looks at the study and changes it
runs/        a run directory per configuration and seed, beside each the lock of the process at work on it

SQLite locks no rows, so that two of Optuna's `ask` can get the same trial, and Optuna's heartbeat does not
serve `ask` and `tell`. File locks do both here: the system frees those of a killed process at once.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from bnn_tf.errors import UsageError, UserError
from bnn_tf.training.run import Run, RunConfig
from bnn_tf.training.sweep import space

_STUDY = "sweep"
_LOCK = "sweep.lock"
_DATABASE = "sweep.db"
_UNFINISHED = (
    f"{_DATABASE}.part",
    f"{_DATABASE}.part-journal",
)  # of a process killed while it made the study


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
        return " ".join([*describe(self.choices), f"seed {self.config.seed}"])

    def to_attributes(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"number": self.number, "choices": self.choices, "config": self.config.to_dict()}
        return {"name": self.name, **values}

    @classmethod
    def from_attributes(cls, values: Mapping[str, Any]) -> "Task":
        """What `to_attributes` gave, also after a detour through JSON."""
        return cls(values["number"], dict(values["choices"]), RunConfig.from_dict(values["config"]))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where a task stands.

    Args:
        task: The task.
        run_dir: Its run directory, which exists once it was started.
        state: `complete`, `running`, `waiting` (also where its process died), or `failed`.
        result: Once complete, the shares of held-out images that were right: `top1`, and mostly `top5`.
        error: Why it failed.
    """

    task: Task
    run_dir: Path
    state: str
    result: dict[str, float] | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A task that no other process gets as long as its lock is open."""

    task: Task
    trial: optuna.Trial
    lock: IO[str]


def describe(choices: Mapping[str, Any]) -> list[str]:
    """`KEY=VALUE` of each choice."""
    return [f"{key}={space.plain(value)}" for key, value in choices.items()]


class Sweep:
    """A sweep directory."""

    def __init__(self, path: Path, study: optuna.Study) -> None:
        self.path, self.study = path, study

    @classmethod
    def start(
        cls,
        path: str | os.PathLike,
        definition: Mapping[str, Any],
        axes: Mapping[str, space.Axis],
        prepare: Callable[[], Sequence[Task]],
    ) -> "Sweep":
        """Makes a sweep, or opens the one that is there.

        Args:
            path: Its directory.
            definition: What was asked for, as plain values.
            axes: What is swept.
            prepare: Gives the tasks in the order in which to train them; called only for a new sweep.

        Raises:
            UserError: the directory holds something else, or another sweep, or cannot be made.
        """
        folder = Path(path)
        wanted = json.loads(json.dumps(definition))
        if not cls.exists(folder):
            _require_empty(folder)
            tasks = prepare()
            _make(folder)
            with _locked(folder):
                if not cls.exists(folder):  # nobody else was faster
                    _create_study(folder, wanted, axes, tasks)
        sweep = cls.open(folder)
        change = _difference(sweep.study.user_attrs["definition"], wanted)
        if change is not None:
            raise UsageError(
                f"{folder} holds another sweep: {change}; continue that one with --resume {folder}, "
                "or name another --sweep-dir"
            )
        return sweep

    @staticmethod
    def exists(path: str | os.PathLike) -> bool:
        """Whether there is a sweep at `path`."""
        return (Path(path) / _DATABASE).is_file()

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Sweep":
        """An existing sweep.

        Raises:
            UserError: there is none at `path`, or its file cannot be read.
        """
        folder = Path(path)
        if not cls.exists(folder):
            raise UserError(f"there is no sweep in {folder}: it has no {_DATABASE}")
        with _locked(folder):
            try:
                study = optuna.load_study(
                    study_name=_STUDY,
                    storage=_storage(folder / _DATABASE),
                    sampler=optuna.samplers.RandomSampler(),  # what is not asked, costs no time
                )
                if "definition" not in study.user_attrs:
                    raise KeyError("definition")
            except (KeyError, RuntimeError) as error:  # not ours, or of another version of Optuna
                raise UserError(f"{folder / _DATABASE} holds no sweep of bnn-tf: {error}") from error
        return cls(folder, study)

    def claim(self) -> Claim | None:
        """The next task, which is this process's from now on; `None` if there is none.

        Tasks of processes that died come last, so that one that kills its process cannot stop the others.
        """
        with _locked(self.path):
            if self._trials(TrialState.WAITING):
                trial = self.study.ask()
                task = Task.from_attributes(trial.user_attrs)
                return Claim(task, trial, self._lock(task))
            for abandoned in self._trials(TrialState.RUNNING):
                task = Task.from_attributes(abandoned.user_attrs)
                if not self._is_locked(task):
                    return Claim(task, optuna.Trial(self.study, abandoned._trial_id), self._lock(task))
            return None

    def open_run(self, task: Task, **moved: Any) -> Run:
        """The task's run, new or as far as it got.

        Args:
            task: The task.
            moved: Fields of its configuration that are different here (`data_dir`, `workers`).
        """
        path = self._run_path(task)
        if not Run.exists(path):
            part = path.with_name(path.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            Run.create(task.config, part)
            part.replace(path)
        run = Run.open(path)
        return Run(path, dataclasses.replace(run.config, **moved))

    def finish(self, claim: Claim, result: Mapping[str, float]) -> Outcome:
        """Records the result of a claimed task; see `Outcome`."""
        with _locked(self.path):
            claim.trial.set_user_attr("result", dict(result))
            self.study.tell(claim.trial, result["top1"])
        return Outcome(claim.task, self._run_path(claim.task), "complete", result=dict(result))

    def fail(self, claim: Claim, error: str) -> Outcome:
        """Records that a claimed task failed, and why."""
        with _locked(self.path):
            claim.trial.set_user_attr("error", error)
            self.study.tell(claim.trial, state=TrialState.FAIL)
        return Outcome(claim.task, self._run_path(claim.task), "failed", error=error)

    def retry_failed(self) -> None:
        """Lets failed tasks wait again."""
        with _locked(self.path):
            for trial in self._current():
                if trial.state == TrialState.FAIL:
                    kept = {key: value for key, value in trial.user_attrs.items() if key != "error"}
                    self.study.add_trial(_waiting(trial.params, trial.distributions, kept))

    def outcomes(self) -> list[Outcome]:
        """Where each task stands, in the order in which they were planned."""
        with _locked(self.path):
            return [self._outcome(trial) for trial in self._current()]

    def _outcome(self, trial: FrozenTrial) -> Outcome:
        task = Task.from_attributes(trial.user_attrs)
        state = {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}.get(trial.state, "waiting")
        if trial.state == TrialState.RUNNING and self._is_locked(task):
            state = "running"
        # A process can die between noting a result and ending the trial, which is then trained again.
        result = trial.user_attrs.get("result") if state == "complete" else None
        error = trial.user_attrs.get("error") if state == "failed" else None
        return Outcome(task, self._run_path(task), state, result, error)

    def _current(self) -> list[FrozenTrial]:
        """The last trial of each task; the earlier ones failed."""
        return list({trial.user_attrs["name"]: trial for trial in self._trials()}.values())

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _lock(self, task: Task) -> IO[str]:
        file = self._lock_path(task).open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def _is_locked(self, task: Task) -> bool:
        with self._lock_path(task).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _run_path(self, task: Task) -> Path:
        return self.path / "runs" / task.name

    def _lock_path(self, task: Task) -> Path:
        return self.path / "runs" / f"{task.name}.lock"


def _require_empty(folder: Path) -> None:
    ours = (_LOCK, "runs", *_UNFINISHED)
    if folder.is_dir() and any(entry.name not in ours for entry in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no sweep; name another --sweep-dir")


def _make(folder: Path) -> None:
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the sweep directory {folder}: {error.strerror}") from error


def _create_study(
    folder: Path, definition: Mapping[str, Any], axes: Mapping[str, space.Axis], tasks: Sequence[Task]
) -> None:
    """Makes the whole study aside, so that a process killed at it leaves none."""
    for name in _UNFINISHED:
        (folder / name).unlink(missing_ok=True)
    part = folder / _UNFINISHED[0]
    storage = _storage(part, synchronous="OFF")
    study = optuna.create_study(study_name=_STUDY, storage=storage, direction="maximize")
    study.set_user_attr("definition", definition)
    distributions = {key: space.distribution(axis) for key, axis in axes.items()}
    for task in tasks:
        params = {key: space.plain(value) for key, value in task.choices.items()}
        study.add_trial(_waiting(params, distributions, task.to_attributes()))
    storage.engine.dispose()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(folder / _DATABASE)


def _waiting(
    params: Mapping[str, Any], distributions: Mapping[str, Any], attributes: Mapping[str, Any]
) -> FrozenTrial:
    return create_trial(
        state=TrialState.WAITING,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs=dict(attributes),
    )


def _storage(database: Path, synchronous: str = "FULL") -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    # Not by URL, in which a path may not contain ?, # or braces.
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(database, timeout=60, check_same_thread=False)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        return connection

    return optuna.storages.RDBStorage("sqlite:///sweep", engine_kwargs={"creator": connect})


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from the study while the body runs.

    Raises:
        UserError: the directory cannot be locked or written, or its database not be read.
    """
    try:
        with (folder / _LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"cannot use the sweep directory: {where}: {error.strerror}") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{folder / _DATABASE} cannot be read or written: {cause}") from error


def _difference(there: Any, here: Any, name: str = "") -> str | None:
    """Where two definitions differ first."""
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = ((key, there.get(key), here.get(key)) for key in {**there, **here})
        return next(filter(None, (_difference(a, b, f"{name} {key}".strip()) for key, a, b in pairs)), None)
    if there == here:
        return None
    return f"{name} is {_said(there)} there and {_said(here)} here"


def _said(value: Any) -> str:
    return "not given" if value in (None, [], {}) else json.dumps(value)
