"""What happens around the epochs of a run: progress, metrics.csv, checkpoints."""

import math
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.training.run import Run


def duration(seconds: float) -> str:
    """Seconds as people say them: `48 s`, `4 min 50 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class StopAtNaN(tf.keras.callbacks.Callback):
    """Ends training with an error as soon as the loss is no finite number."""

    def __init__(self, run: Run, phase: int) -> None:
        super().__init__()
        self.run, self.phase, self.epoch = run, phase, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remembers the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the mean loss of the epoch so far, which a single NaN makes NaN."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            name = self.run.config.recipe.phases[self.phase].name
            raise UserError(
                f"the loss is not finite any more in epoch {self.epoch + 1} of phase {name}: try a lower "
                f"--learning-rate; {self.run.path} keeps the last complete epoch"
            )


class Checkpointing(tf.keras.callbacks.Callback):
    """Saves, after each epoch, the row of metrics.csv, the weights file, and last the checkpoint.

    The checkpoint is what counts: where a process dies in between, the epoch is trained again.

    Args:
        run: Where to.
        phase: Index of the phase.
        model: The network whose weights are saved (a distiller's student).
        checkpoint: The network and its optimizer.
    """

    def __init__(self, run: Run, phase: int, model: tf.keras.Model, checkpoint: tf.train.Checkpoint) -> None:
        super().__init__()
        self.run, self.phase, self.network = run, phase, model
        self.manager = tf.train.CheckpointManager(
            checkpoint, str(run.checkpoint_dir(phase)), max_to_keep=1, checkpoint_name="epoch"
        )
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Drops rows of epochs that did not reach their checkpoint."""
        done = self.run.completed_epochs(self.phase)
        names = [phase.name for phase in self.run.config.recipe.phases]
        self.rows = [
            row
            for row in self.run.metrics()
            if (names.index(row["phase"]), int(row["epoch"])) <= (self.phase, done)
        ]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the epoch.

        Raises:
            UserError: the disk is full, or the run directory cannot be written for another reason.
        """
        row = {
            "phase": self.run.config.recipe.phases[self.phase].name,
            "epoch": epoch + 1,
            **{_column(key): float(value) for key, value in (logs or {}).items()},
            "seconds": round(time.monotonic() - self.started, 2),
        }
        self.rows.append(row)
        try:
            self.run.write_metrics(self.rows)
            partial = self.run.path / "partial.weights.h5"
            self.network.save_weights(partial)
            partial.replace(self.run.weights_path)
            self.manager.save(checkpoint_number=epoch + 1)
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"epoch {epoch + 1} cannot be saved in {self.run.path}: {error}; mend it and --resume the run"
            ) from error


def _column(name: str) -> str:
    return {"lr": "learning_rate"}.get(name, name)


class EpochProgress(tf.keras.callbacks.Callback):
    """A bar while an epoch runs (on a terminal), and a line when it ends.

    Args:
        console: Where to.
        label: Name of the phase.
        epochs: Epochs of the phase.
        steps: Training steps per epoch.
        epochs_after: Epochs of later phases, for the time left.
        print_every: On something other than a terminal, also a line every so many steps; 0 for none.
    """

    def __init__(
        self,
        console: Console,
        label: str,
        epochs: int,
        steps: int,
        epochs_after: int = 0,
        print_every: int = 0,
    ) -> None:
        super().__init__()
        self.console, self.label, self.epochs, self.steps = console, label, epochs, steps
        self.epochs_after, self.print_every = epochs_after, print_every
        self.seconds: list[float] = []
        self.bar: Progress | None = None
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the bar."""
        self.started = time.monotonic()
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}"),
                console=self.console,
                transient=True,
            )
            self.bar.add_task(f"{self.label} {epoch + 1}/{self.epochs}", total=self.steps, status="")
            self.bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves the bar on."""
        status = f"loss {logs['loss']:.3f}  accuracy {logs.get('accuracy', 0):.1%}" if logs else ""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=batch + 1, status=status)
        elif self.print_every and (batch + 1) % self.print_every == 0:
            self.console.print(f"  step {batch + 1}/{self.steps}  {status}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replaces the bar by a line."""
        self.close()
        self.seconds.append(time.monotonic() - self.started)
        left = self.epochs - epoch - 1 + self.epochs_after
        usual = sorted(self.seconds)[len(self.seconds) // 2]
        self.console.print(
            f"{self.label} {epoch + 1}/{self.epochs}  {_figures(logs or {})}  {duration(self.seconds[-1])}"
            + (f"  left {duration(left * usual)}" if left else "")
        )

    def close(self) -> None:
        """Takes the bar away, also when training was interrupted."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("lr", "lr", lambda value: f"{value:.3g}"),
    ("loss", "loss", lambda value: f"{value:.3f}"),
    ("accuracy", "accuracy", lambda value: f"{value:.1%}"),
    ("val_accuracy", "test accuracy", lambda value: f"{value:.2%}"),
)


def _figures(logs: dict[str, float]) -> str:
    return "  ".join(f"{label} {form(logs[key])}" for key, label, form in _FIGURES if key in logs)
