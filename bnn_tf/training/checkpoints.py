"""Checkpoints that survive a kill and a power cut: written apart, synced, renamed, verified when read.

checkpoints/1-train/epoch-12/            after 12 complete epochs
checkpoints/1-train/epoch-12-step-340/   after 340 steps of the 13th
    state.index, state.data-…            what TensorFlow writes
    state.json                           position, rows of metrics.csv, and the checksums of the other files

A checkpoint is written into a folder with a temporary name. Its files are synced, then that folder, then
state.json; only then it gets its name, and only after that an older one is deleted (state.json first). A
folder without state.json is what a killed process left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError, first_line

if TYPE_CHECKING:
    from zoo.recipes import Phase

KEPT = 2
"""How many of the newest checkpoints of a phase are kept, beside the best."""

_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")
_STATE = "state.json"


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint on the disk.

    Attributes:
        path: Its folder.
        phase: Number of the phase, from 0.
        epoch: Complete epochs of the phase.
        step: Steps of the next epoch.
    """

    path: Path
    phase: int
    epoch: int
    step: int = 0

    @property
    def prefix(self) -> str:
        """What TensorFlow calls the checkpoint."""
        return str(self.path / "state")

    def state(self) -> dict[str, Any]:
        """The content of state.json.

        Raises:
            UserError: it is missing or damaged.
        """
        try:
            state = json.loads((self.path / _STATE).read_text())
            if not isinstance(state["sha256"], dict) or not isinstance(state["rows"], list):
                raise ValueError("an entry has the wrong type")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path / _STATE} cannot be read: {first_line(error)}") from error
        return state

    def verify(self) -> dict[str, Any]:
        """The content of state.json, after the checksums of all files were compared.

        Raises:
            UserError: a file is missing or differs.
        """
        state = self.state()
        for name, expected in state["sha256"].items():
            try:
                actual = files.checksum(self.path / name)
            except OSError as error:
                raise UserError(f"{self.path / name} cannot be read: {error.strerror}") from error
            if actual != expected:
                raise UserError(f"{self.path / name} is damaged: its checksum is another")
        return state


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they are.
        phases: Names of the run's phases.
    """

    def __init__(self, folder: Path, phases: Sequence[str]) -> None:
        self.folder, self.phases = folder, list(phases)

    def phase_folder(self, phase: int) -> Path:
        """Where the checkpoints of a phase are."""
        return self.folder / f"{phase + 1}-{self.phases[phase]}"

    def all(self) -> list[Saved]:
        """Everything that looks like a complete checkpoint, in the order of training."""
        saved = []
        for phase in range(len(self.phases)):
            with contextlib.suppress(OSError):
                for path in self.phase_folder(phase).iterdir():
                    match = _NAME.fullmatch(path.name)
                    if match and (path / _STATE).is_file():
                        saved.append(Saved(path, phase, int(match[1]), int(match[2] or 0)))
        return sorted(saved, key=lambda one: (one.phase, one.epoch, one.step))

    def newest_sound(
        self, candidates: Sequence[Saved] | None = None, say: Callable[[str], None] | None = None
    ) -> Saved | None:
        """The newest checkpoint whose files are as they were written; `None` if there is none at all.

        Args:
            candidates: The checkpoints to choose from, in the order of training; by default all.
            say: Gets a line for each checkpoint that is damaged.

        Raises:
            UserError: there are checkpoints and all are damaged.
        """
        candidates = self.all() if candidates is None else candidates
        problem: UserError | None = None
        for saved in reversed(candidates):
            try:
                saved.verify()
            except UserError as error:
                problem = problem or error
                if say is not None:
                    say(f"{error}; trying the checkpoint before it")
                continue
            return saved
        if problem is not None:
            raise UserError(f"no checkpoint in {self.folder} can be used: {problem}") from problem
        return None

    def save(
        self,
        objects: tf.train.Checkpoint,
        phase: int,
        epoch: int,
        step: int,
        rows: Sequence[Mapping[str, Any]],
        logs: Mapping[str, float] | None = None,
        score: float | None = None,
        seconds: float = 0.0,
        writes: bool = True,
    ) -> None:
        """Writes a checkpoint, then deletes those of the phase that are not kept.

        Args:
            objects: What to save.
            phase: Number of the phase.
            epoch: Complete epochs.
            step: Steps of the next epoch.
            rows: The rows of metrics.csv so far.
            logs: Figures of an epoch that is trained but not evaluated yet.
            score: What makes it better than others (the held-out accuracy).
            seconds: How long the steps of the next epoch took.
            writes: Whether this process writes; of several workers only the chief does, but all take part.

        Raises:
            UserError: the disk is full, or the folder cannot be written; what was there before stays.
        """
        if not writes:  # reading sums over replicas needs all workers
            with tempfile.TemporaryDirectory() as nobodys:
                objects.write(f"{nobodys}/state")
            return
        folder = self.phase_folder(phase)
        name = f"epoch-{epoch}" + (f"-step-{step}" if step else "")
        temporary = folder / f".{name}.{os.getpid()}{files.TEMPORARY}"
        try:
            temporary.mkdir(parents=True)
            objects.write(str(temporary / "state"))
            written = sorted(path for path in temporary.iterdir() if path.is_file())
            for path in written:
                files.sync(path)
            files.sync(temporary)
            state = {
                "phase": self.phases[phase],
                "epoch": epoch,
                "step": step,
                "score": score,
                "seconds": round(seconds, 2),
                "logs": dict(logs or {}),
                "rows": [dict(row) for row in rows],
                "sha256": {path.name: files.checksum(path) for path in written},
            }
            files.write_text(temporary / _STATE, json.dumps(state) + "\n")
            _remove(folder / name)
            temporary.rename(folder / name)
            for parent in (folder, self.folder, self.folder.parent):
                files.sync(parent)
        except (OSError, tf.errors.OpError) as error:
            what = getattr(error, "strerror", None) or first_line(error)
            raise UserError(f"cannot save a checkpoint in {folder}: {what}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(phase)

    def _prune(self, phase: int) -> None:
        """Deletes the checkpoints of a phase except the newest and the best."""
        saved = [one for one in self.all() if one.phase == phase]
        scores: dict[Saved, float] = {}
        for one in saved:
            with contextlib.suppress(UserError):
                score = one.state().get("score")
                if isinstance(score, (int, float)):
                    scores[one] = score
        best = max(scores, key=lambda one: (scores[one], one.epoch), default=None)
        for one in saved[:-KEPT]:
            if one != best:
                _remove(one.path)

    def restore(self, saved: Saved, objects: tf.train.Checkpoint, partial: bool = False) -> None:
        """Gives objects their values from a checkpoint.

        Args:
            saved: The checkpoint.
            objects: What to restore.
            partial: Whether the checkpoint may hold more than that.

        Raises:
            UserError: it cannot be read, lacks a variable, or holds one that the objects do not have.
        """
        try:
            status = objects.read(saved.prefix)
            if partial:
                status.expect_partial().assert_existing_objects_matched()
            else:
                status.assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            raise UserError(
                f"the checkpoint {saved.path} is damaged or of another network: {first_line(error)}"
            ) from error

    def remove_leftovers(self) -> None:
        """Deletes what killed processes left; call it while holding the run's lock."""
        for phase in range(len(self.phases)):
            with contextlib.suppress(OSError):
                for path in self.phase_folder(phase).iterdir():
                    hidden = path.name.startswith(".") and path.name.endswith(files.TEMPORARY)
                    if hidden or (_NAME.fullmatch(path.name) and not (path / _STATE).is_file()):
                        _remove(path)


def _remove(path: Path) -> None:
    """Deletes a checkpoint, so that half of one is never taken for a whole one."""
    (path / _STATE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


class WeightAverage:
    """An exponential average of a network's weights: `a ← m·a + (1 - m)·w` after every training step.

    It begins with the weights that the network has then, and takes the trainable ones and BatchNorm's
    statistics; other state (τ, codebooks, counters) is as the network has it.

    Args:
        network: The network.
        momentum: m.
        only_batch_norm: Whether nothing but BatchNorm is trained, also where the network's layers are not
            frozen: a run that is opened has the averages that its training had.

    Attributes:
        averages: The variables, for a checkpoint.
    """

    def __init__(self, network: tf.keras.Model, momentum: float, only_batch_norm: bool = False) -> None:
        norms = [layer for layer in network.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
        trained = (
            [v for layer in norms for v in layer.trainable_weights]
            if only_batch_norm
            else network.trainable_weights
        )
        chosen = [*trained, *(v for layer in norms for v in layer.non_trainable_weights)]
        self._weights = [getattr(v, "latent_variable", v) for v in {id(v): v for v in chosen}.values()]
        self.momentum = momentum
        self.averages = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self.update = tf.function(self._update)  # here, so that importing this module needs no TensorFlow

    @classmethod
    def of(cls, network: tf.keras.Model, phase: Phase) -> WeightAverage | None:
        """The average that a phase of a recipe takes; `None` where it takes none."""
        return cls(network, phase.ema, phase.trainable == "batch_norm") if phase.ema else None

    def _update(self, steps: tf.Tensor) -> None:
        """Takes the weights after some steps into the average."""
        kept = tf.pow(tf.constant(self.momentum, tf.float32), tf.cast(steps, tf.float32))
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign(kept * average + (1 - kept) * weight)

    def swap(self) -> None:
        """Exchanges the network's weights and their averages."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            value = tf.identity(weight)
            weight.assign(average)
            average.assign(value)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The network has the averages while the body runs."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
