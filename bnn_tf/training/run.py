"""Run directories: everything about one training, in files that people and programs can read.

config.json        all that is needed to rebuild and resume
metrics.csv        one row per epoch
checkpoints/       per phase, the last complete epoch with the optimizer's state
model.weights.h5   the weights after the last complete epoch
tensorboard/       logs for TensorBoard
environment.json   versions and hardware
"""

import contextlib
import csv
import dataclasses
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from zoo.recipes import Recipe

_PACKAGES = ("bnn-tf", "tensorflow", "tf_keras", "larq", "larq-zoo", "larq-compute-engine", "numpy")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a run is, apart from where it is.

    Args:
        recipe: The resolved recipe.
        seed: Seed of weights, order and augmentation.
        data_dir: Folder of the dataset.
        limit: Use only so many images of each split.
        deterministic: Make every operation reproducible, at some cost in speed.
        workers: Parallel calls that prepare images; `None` chooses.
        init_from: Run whose weights are the start.
        class_names: The labels' names, in order.
    """

    recipe: Recipe
    seed: int = 1
    data_dir: str | None = None
    limit: int | None = None
    deterministic: bool = False
    workers: int | None = None
    init_from: str | None = None
    class_names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """What `to_dict` gave, also after a detour through JSON."""
        values = {**values, "recipe": Recipe.from_dict(values["recipe"])}
        values["class_names"] = tuple(values["class_names"])
        return cls(**values)


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file so that a reader or a crash never sees half of it."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    os.replace(temporary, path)


class Run:
    """A run directory."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def create(cls, config: RunConfig, path: str | os.PathLike | None = None) -> "Run":
        """Makes the directory, with its configuration and environment.

        Args:
            config: What the run is.
            path: Where; by default a new folder under `runs/`, named after recipe and time.

        Raises:
            UserError: the folder holds something already, or cannot be made.
        """
        try:
            folder = _new_folder(config.recipe) if path is None else _empty_folder(Path(path))
            write_atomically(folder / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
            write_atomically(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
        except OSError as error:
            where = error.filename or path
            raise UserError(f"cannot make the run directory: {where}: {error.strerror}") from error
        return cls(folder, config)

    @staticmethod
    def exists(path: str | os.PathLike) -> bool:
        """Whether there is a run directory at `path`."""
        return (Path(path) / "config.json").is_file()

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Run":
        """An existing run.

        Raises:
            UserError: there is none at `path`, or its configuration cannot be read.
        """
        folder = Path(path)
        config = folder / "config.json"
        if not cls.exists(folder):
            what = "has no config.json" if folder.is_dir() else "does not exist"
            raise UserError(f"{folder} is no run directory: it {what}")
        try:
            return cls(folder, RunConfig.from_dict(json.loads(config.read_text())))
        except KeyError as error:
            raise UserError(f"{config} cannot be read: it has no entry {error}") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{config} cannot be read: {error}") from error

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from training the run while the body does.

        Raises:
            UserError: another process is at it.
        """
        with (self.path / "config.json").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is training {self.path}") from None
            except OSError:  # a file system without locks
                pass
            yield

    @property
    def weights_path(self) -> Path:
        """Weights after the last complete epoch."""
        return self.path / "model.weights.h5"

    def checkpoint_dir(self, phase: int) -> Path:
        """Where the checkpoints of a phase are."""
        return self.path / "checkpoints" / f"{phase + 1}-{self.config.recipe.phases[phase].name}"

    def completed_epochs(self, phase: int) -> int:
        """How many epochs of the phase have a checkpoint."""
        latest = tf.train.latest_checkpoint(self.checkpoint_dir(phase))
        return int(Path(latest).name.removeprefix("epoch-")) if latest else 0

    def restore(self, checkpoint: tf.train.Checkpoint, phase: int) -> None:
        """Gives the objects of `checkpoint` their values from the last one of a phase.

        Variables that do not exist yet (an optimizer's) receive them when they are created.

        Raises:
            UserError: it cannot be read, or lacks a variable.
        """
        folder = self.checkpoint_dir(phase)
        try:
            status = checkpoint.restore(tf.train.latest_checkpoint(folder))
            status.assert_existing_objects_matched().expect_partial()
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(
                f"the checkpoint in {folder} is damaged or of another network: {first}"
            ) from error

    def position(self) -> tuple[int, int] | None:
        """Phase and complete epochs of it of the last checkpoint; `None` before the first."""
        done = [(phase, self.completed_epochs(phase)) for phase in range(len(self.config.recipe.phases))]
        return max(((phase, epochs) for phase, epochs in done if epochs), default=None)

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv."""
        path = self.path / "metrics.csv"
        if not path.is_file():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replaces metrics.csv; columns are those of all rows, in order of appearance."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        temporary = self.path / "metrics.csv.part"
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path / "metrics.csv")


def _empty_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        again = f"continue its run with --resume {folder}, or " if Run.exists(folder) else ""
        raise UserError(f"{folder} is not empty; {again}name another --run-dir")
    return folder


def _new_folder(recipe: Recipe) -> Path:
    """A folder of one's own, also where several runs start in the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{recipe.method}-{recipe.model}-{recipe.dataset}-{stamp}"
    number = 1
    while True:
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
        number += 1


def environment() -> dict[str, Any]:
    """Versions and hardware."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "packages": {name: _version(name) for name in _PACKAGES},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # used from its source tree, without being installed
        return None
