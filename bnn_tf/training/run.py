"""Run directories: everything about one training, in files that people and programs can read.

config.json          all that is needed to rebuild and resume, with a format number
environment.json     versions and hardware
checkpoints/         per phase, the last two checkpoints and the best one (see `checkpoints`)
metrics.csv          one row per epoch
model.weights.h5     the weights after the last complete epoch; model.weights.json has their checksum
diagnostics.jsonl    figures of binary kernels
tensorboard/         logs for TensorBoard

What counts is the newest checkpoint. The rows of metrics.csv are also in it, and the weights can be read from
it, so that both are written again where they are missing or damaged.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from bnn_tf import files, model_files
from bnn_tf._tensorflow import tf
from bnn_tf.errors import AdvisingError, ClaimedError, UsageError, UserError, first_line
from bnn_tf.training.checkpoints import Checkpoints, WeightAverage
from bnn_tf.values import Count, Range, Value
from zoo.blocks import get_model, require_options
from zoo.recipes import Phase, Recipe
from zoo.recipes.recipe import FROM_RECIPE, STARTS, construct

FORMAT = 2
"""Of run directories. Format 1 had recipes of names and options, and one checkpoint without checksum."""

_PACKAGES = ("bnn-tf", "tensorflow", "tf_keras", "larq", "larq-zoo", "larq-compute-engine", "numpy")
_UNFINISHED = {"environment.json"}  # a run whose process died while it made the directory


class NotResumableError(AdvisingError):
    """A run was trained before, and no checkpoint of it can be used.

    Example:
        >>> str(NotResumableError("no checkpoint can be read", "start again from its last weights"))
        'no checkpoint can be read; start again from its last weights'
    """


class Position(NamedTuple):
    """How far a run is: `epoch` epochs of phase number `phase` are complete, and `step` steps of the next.

    Example:
        >>> Position(phase=0, epoch=3) < Position(phase=0, epoch=3, step=100) < Position(phase=1)
        True
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0


class Cadence(NamedTuple):
    """How often to save in the middle of an epoch: after a number of seconds, or after a number of steps.

    Example:
        >>> Cadence.parse("500steps")
        Cadence(seconds=None, steps=500)
    """

    seconds: float | None = None
    steps: int | None = None

    @classmethod
    def parse(cls, text: str) -> Cadence:
        """Reads `30s`, `10m`, `2h`, `500steps`; `epoch` is only at the end of each epoch.

        Raises:
            UsageError: it is something else.

        Example:
            >>> Cadence.parse("10m").seconds
            600.0
        """
        if text == "epoch":
            return cls()
        match = re.fullmatch(r"([1-9]\d{0,8}) ?(s|m|h|steps)", text)
        if not match:
            raise UsageError(f"checkpoints are saved every 30s, 10m, 2h, 500steps or epoch, not {text!r}")
        number, unit = int(match[1]), match[2]
        if unit == "steps":
            return cls(steps=number)
        return cls(seconds=float(number * {"s": 1, "m": 60, "h": 3600}[unit]))


@dataclasses.dataclass(frozen=True)
class RunConfig(Value):
    """All that decides what a run computes.

    Args:
        recipe: The resolved recipe.
        seed: Seed of weights, order and augmentation.
        data_dir: Folder of the dataset.
        limit: How many images of each split to use; all by default.
        deterministic: Make every operation reproducible, at some cost in speed.
        workers: Parallel calls that prepare images; `None` chooses.
        init_from: Whose weights are the start: a run, a saved model, `zoo:NAME` or `larq-zoo:NAME` (see
            `bnn_tf.training.sources`).
        class_names: The labels' names, in order.
        precision: Of activations and gradients; latent weights, statistics and losses are always float32.
        jit: Compile the training step with XLA (on CPUs this is slower).
        steps_per_execution: Training steps between two returns to Python.
        sync_batch_norm: Normalise over the images of all replicas instead of each replica's own.
        checkpoint_every: See `Cadence.parse`; there is always one after each epoch.

    Raises:
        UsageError: a value is impossible; the message names the field.

    Example:
        >>> from zoo import recipes
        >>> config = RunConfig(recipes.find("recu", dataset="digits"), seed=3)
        >>> RunConfig.from_dict(config.to_dict()) == config
        True
    """

    recipe: Recipe
    seed: Annotated[int, Range(least=0, below=2**31)] = 1
    data_dir: str | None = None
    limit: Count | None = None
    deterministic: bool = False
    workers: Count | None = None
    init_from: str | None = None
    class_names: tuple[str, ...] = ()
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    jit: bool = False
    steps_per_execution: Count = 1
    sync_batch_norm: bool = False
    checkpoint_every: str = "10m"
    kind: ClassVar[str] = "configuration"

    def __post_init__(self) -> None:
        """Checks the cadence, too."""
        if isinstance(self.recipe, Mapping):
            object.__setattr__(self, "recipe", Recipe.from_dict(self.recipe))
        super().__post_init__()
        Cadence.parse(self.checkpoint_every)

    def _title(self) -> str:
        return self.kind

    @property
    def cadence(self) -> Cadence:
        """How often to save in the middle of an epoch."""
        return Cadence.parse(self.checkpoint_every)

    def sources(self) -> list[str | None]:
        """From what other than the previous phase each phase takes its weights; `None` if it does not.

        Example:
            >>> from zoo import recipes
            >>> RunConfig(recipes.find("recu"), init_from="zoo:cifar_resnet20-recu").sources()
            ['zoo:cifar_resnet20-recu']
        """
        named = [None if phase.start in STARTS else phase.start for phase in self.recipe.phases]
        return named if self.init_from is None else [self.init_from, *named[1:]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the format number."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "format": FORMAT,
            **fields,
            "recipe": self.recipe.to_dict(),
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """What `to_dict` gave, also after a detour through JSON.

        Raises:
            UserError: it has another format, or an entry is missing, unknown or impossible.
        """
        if not isinstance(values, Mapping):
            raise UserError("it is no JSON object")
        if values.get("format") != FORMAT:
            raise UserError(
                f"its format is {values.get('format', 1)!r}, this version reads {FORMAT}; "
                "use the version of bnn-tf that made the run, or train again"
            )
        for entry in ("recipe", "class_names"):
            if entry not in values:
                raise UserError(f"it has no entry {entry!r}")
        return construct(cls, {key: value for key, value in values.items() if key != "format"})

    def located(self) -> RunConfig:
        """The same with absolute paths, so that a run can be resumed from another folder."""
        recipe = self.recipe
        phases = tuple(
            phase if phase.start in STARTS else dataclasses.replace(phase, start=_absolute(phase.start))
            for phase in recipe.phases
        )
        return dataclasses.replace(
            self,
            recipe=dataclasses.replace(recipe, phases=phases, teacher=_absolute(recipe.teacher)),
            data_dir=_absolute(self.data_dir),
            init_from=_absolute(self.init_from),
        )


def _absolute(path: Any) -> Any:
    """The absolute path of what exists; anything else (also what is no path) as it is."""
    if path is None or not files.expanded(path).exists():
        return path
    return os.path.abspath(files.expanded(path))


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """What `Run.metrics` gives of the run directory `folder`, also where its method cannot be imported.

    All columns but `phase` hold finite numbers, and a cell with anything else reads as empty; a row of
    another length, or without the number of its epoch, is left out.
    """
    try:
        rows = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
    except (OSError, ValueError, csv.Error):
        return []
    whole = [row for row in rows if None not in row and None not in row.values()]
    read = [{key: text if key == "phase" else _finite(text) for key, text in row.items()} for row in whole]
    return [row for row in read if row.get("epoch", "1").isdigit()]


def _finite(text: str) -> str:
    """The text of a finite number; nothing of another one or of anything else."""
    with contextlib.suppress(ValueError):
        return text if math.isfinite(float(text)) else ""
    return ""


class Run:
    """A run directory.

    Args:
        path: The directory.
        config: Its configuration.

    Example:
        >>> import tempfile
        >>> from zoo import recipes
        >>> run = Run.create(RunConfig(recipes.find("recu", dataset="digits")), tempfile.mkdtemp())
        >>> Run.open(run.path).config == run.config, run.position() is None
        (True, True)
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = path, config
        self.checkpoints = Checkpoints(path / "checkpoints", [phase.name for phase in config.recipe.phases])

    @classmethod
    def create(cls, config: RunConfig, path: str | os.PathLike | None = None) -> Run:
        """Makes the directory, with its configuration and environment.

        Args:
            config: What the run is.
            path: Where; by default a new folder under `runs/`, named after recipe and time. A folder that a
                killed process left half made is taken.

        Raises:
            UserError: the folder holds something already, or cannot be made.
        """
        folder = _new_folder(config.recipe) if path is None else _empty_folder(Path(path))
        files.write_text(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
        files.write_text(folder / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
        return cls(folder, config)

    @staticmethod
    def exists(path: str | os.PathLike) -> bool:
        """Whether there is a run directory at `path`."""
        return (Path(path) / "config.json").is_file()

    @classmethod
    def open(cls, path: str | os.PathLike) -> Run:
        """An existing run.

        Raises:
            UserError: there is none at `path`, its configuration cannot be read, or its method or network is
                in a module that may not be imported (see `bnn_tf.registry`).
        """
        folder = Path(path)
        config = folder / "config.json"
        if not cls.exists(folder):
            what = "has no config.json" if folder.is_dir() else "does not exist"
            raise UserError(f"{folder} is no run directory: it {what}")
        try:
            return cls(folder, RunConfig.from_dict(json.loads(config.read_text())))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{config} cannot be read: {first_line(error)}") from error

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from training the run while the body does, and removes what they left.

        Raises:
            ClaimedError: another process trains the run.
            UserError: its directory cannot be written.
        """
        with files.locked(self.path / "config.json", f"another process is training {self.path}"):
            files.remove_leftovers(self.path)
            self.checkpoints.remove_leftovers()
            yield

    def is_claimed(self) -> bool:
        """Whether another process trains the run now."""
        try:
            with self.claimed():
                return False
        except ClaimedError:
            return True
        except UserError:  # a folder that cannot be written is nobody's
            return False

    @property
    def weights_path(self) -> Path:
        """Weights after the last complete epoch."""
        return self.path / "model.weights.h5"

    @property
    def end(self) -> Position:
        """Where the run is finished."""
        phases = self.config.recipe.phases
        return Position(len(phases) - 1, phases[-1].epochs)

    def position(self) -> Position | None:
        """How far the newest checkpoint is; `None` before the first."""
        saved = self.checkpoints.all()
        return Position(saved[-1].phase, saved[-1].epoch, saved[-1].step) if saved else None

    def reached(self) -> Position:
        """How far the run was trained: what its newest checkpoint, its weights or metrics.csv say.

        Example:
            >>> import tempfile
            >>> from zoo import recipes
            >>> run = Run.create(RunConfig(recipes.find("recu", dataset="digits")), tempfile.mkdtemp())
            >>> run.reached()
            Position(phase=0, epoch=0, step=0)
        """
        known = (self.position(), self.weights_position(), self.epochs_in_metrics())
        return max(position for position in known if position is not None)

    def epochs_done(self) -> int:
        """Complete epochs of all phases."""
        position = self.position() or Position()
        phases = self.config.recipe.phases
        return sum(phase.epochs for phase in phases[: position.phase]) + position.epoch

    def epochs_in_metrics(self) -> Position:
        """How far metrics.csv says the run is."""
        names = [phase.name for phase in self.config.recipe.phases]
        rows = [row for row in self.metrics() if row.get("phase") in names]
        if not rows:
            return Position()
        with contextlib.suppress(TypeError, ValueError):
            return Position(names.index(rows[-1]["phase"]), int(rows[-1]["epoch"]))
        return Position()

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv; none where there is no such file or it cannot be read."""
        return read_metrics(self.path)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Makes metrics.csv hold these rows; columns are those of all rows, in order of appearance.

        Returns:
            Whether the file had to be changed.

        Raises:
            UserError: it cannot be written.
        """
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        path = self.path / "metrics.csv"
        with contextlib.suppress(OSError, ValueError):
            if path.read_bytes() == text.getvalue().encode():
                return False
        if rows or path.exists():
            files.write_text(path, text.getvalue())
        return True

    def save_weights(
        self, network: tf.keras.Model, position: Position | None = None, writes: bool = True
    ) -> None:
        """Writes the weights file, and beside it its checksum and the position it belongs to.

        Args:
            network: The network.
            position: How far it was trained.
            writes: Whether this process writes. Of several workers only the chief does, but all take part:
                BatchNorm's statistics are means over the workers.

        Raises:
            UserError: the disk is full, or the directory cannot be written.
        """
        size = 2 * sum(variable.numpy().nbytes for variable in network.weights) + 2**20
        if not writes:
            with tempfile.TemporaryDirectory() as folder:
                network.save_weights(Path(folder, "other.weights.h5"))
            return
        free = shutil.disk_usage(self.path).free
        if free < size:  # HDF5 crashes where a disk becomes full under it
            raise UserError(f"cannot write {self.weights_path}: {free:,} bytes are free, {size:,} needed")
        note = self._weights_note()
        with files.replacing(self.weights_path) as temporary:
            written = temporary.with_name(f"{temporary.name}.weights.h5")  # Keras goes by the ending
            try:
                network.save_weights(written)
                os.replace(written, temporary)
            finally:
                written.unlink(missing_ok=True)
            known = [files.checksum(temporary), *note.get("sha256", [])[:1]]
            record = {"sha256": known, "position": list(position) if position else None}
            # First the note with both checksums: whichever file a crash leaves, it fits one of them.
            files.write_text(self._weights_note_path, json.dumps(record) + "\n")

    @property
    def _weights_note_path(self) -> Path:
        return self.path / "model.weights.json"

    def _weights_note(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(self._weights_note_path.read_text())
            if isinstance(note, dict) and isinstance(note.get("sha256"), list):
                return note
        return {}

    def weights_position(self) -> Position | None:
        """How far the run was when its weights file was written, where that is known."""
        position = self._weights_note().get("position")
        if self.weights_path.is_file() and isinstance(position, list) and len(position) == 3:
            return Position(*position)
        return None

    def load_weights(self, network: tf.keras.Model) -> None:
        """Gives a network the values of the weights file.

        Raises:
            UserError: there is none, it is damaged, or it does not fit the network.
        """
        path = self.weights_path
        if not path.is_file():
            raise UserError(f"{self.path} has no weights yet: not one epoch is complete")
        known = self._weights_note().get("sha256")
        if known and files.checksum(path) not in known:
            raise UserError(f"{path} is damaged: its checksum is not the one that was written with it")
        model_files.load_weights(network, path)

    def load_network(self) -> tf.keras.Model:
        """The run's network with its weights after the last complete epoch.

        They come from the newest sound checkpoint. Of a run without checkpoints (they may be deleted to save
        space) the weights file serves.

        Raises:
            UserError: no epoch of the run is complete, or its files cannot be read.
        """
        recipe = self.config.recipe
        complete = [saved for saved in self.checkpoints.all() if saved.step == 0]
        saved = self.checkpoints.newest_sound(complete) if complete else None
        if saved is None:
            position = self.weights_position() or self.epochs_in_metrics()
            network = build_network(recipe, len(self.config.class_names), recipe.phases[position.phase])
            self.load_weights(network)
            return network
        phase = recipe.phases[saved.phase]
        network = build_network(recipe, len(self.config.class_names), phase)
        average = WeightAverage.of(network, phase)
        objects = {"model": network} | ({"average": average.averages} if average else {})
        self.checkpoints.restore(saved, tf.train.Checkpoint(**objects), partial=True)
        if average:
            average.swap()
        return network


def build_network(recipe: Recipe, num_classes: int, phase: Phase | None = None) -> tf.keras.Model:
    """The recipe's network as a phase (by default the last) trains it, with random weights.

    Raises:
        UsageError: there is no such architecture, or it does not have or take one of the options.

    Example:
        >>> from zoo import recipes
        >>> build_network(recipes.find("recu", dataset="digits"), num_classes=10).output_shape
        (None, 10)
    """
    require_options(recipe.model, recipe.model_options, besides=FROM_RECIPE)
    try:
        network = get_model(recipe.model)(
            method=recipe.method_of(phase or recipe.phases[-1]),
            input_shape=recipe.images.input_shape,
            num_classes=num_classes,
            **recipe.model_options,
        )
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(f"model {recipe.model}: {error}") from error
    if network.output_shape != (None, num_classes):
        raise UsageError(
            f"model {recipe.model} must return one logit for each of the {num_classes} classes, "
            f"(None, {num_classes}); its output is {network.output_shape}"
        )
    return network


def _empty_folder(folder: Path) -> Path:
    with contextlib.suppress(OSError):
        files.remove_leftovers(folder)
        if {entry.name for entry in folder.iterdir()} <= _UNFINISHED:
            return folder
    hint = "resume its run, or name another folder" if Run.exists(folder) else "name another folder"
    return files.empty_folder(folder, hint)


def _new_folder(recipe: Recipe) -> Path:
    """A folder of one's own, also where several runs start in the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parts = (recipe.method.name, recipe.model, recipe.dataset)
    base = Path("runs") / "-".join([*(re.sub(r"[^\w.-]", "-", part) for part in parts), stamp])
    number = 1
    while True:
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            return files.make_folder(folder, new=True)
        except FileExistsError:
            number += 1


def environment() -> dict[str, Any]:
    """Versions and hardware."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0",
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "packages": {name: _version(name) for name in _PACKAGES},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # used from its source tree, without being installed
        return None
