"""What a training says while it runs: a bar on a terminal, a line when an epoch ends."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text


def duration(seconds: float) -> str:
    """Seconds as people say them: `48 s`, `4 min 50 s`, `2 h 05 min`.

    Example:
        >>> duration(290)
        '4 min 50 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class _Status(ProgressColumn):
    """What happens now; where a terminal is narrow, its end is cut, and no other column."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["status"], no_wrap=True, overflow="ellipsis")


class _TimeLeft(TimeRemainingColumn):
    """The time left, worked out for every frame: a kept one would be that of the steps before."""

    max_refresh = 0.0


class EpochProgress:
    """One live bar while an epoch trains and is evaluated (on a terminal), and a line when it ends.

    Args:
        console: Where to.
        label: Name of the phase.
        epochs: Epochs of the phase.
        steps: Training steps per epoch.
        batch_size: Images per step, for the images per second.
        epochs_after: Epochs of later phases, for the time left.
        print_every: Elsewhere than on a terminal, also a line after each such number of steps; 0: none.
        test_steps: Evaluation steps per epoch.
        test_batch_size: Images per evaluation step.
    """

    def __init__(
        self,
        console: Console,
        label: str,
        epochs: int,
        steps: int,
        batch_size: int = 0,
        epochs_after: int = 0,
        print_every: int = 0,
        test_steps: int = 0,
        test_batch_size: int = 0,
    ) -> None:
        self.console, self.label, self.epochs, self.steps = console, label, epochs, steps
        self.batch_size, self.epochs_after, self.print_every = batch_size, epochs_after, print_every
        self.test_steps, self.test_batch_size = test_steps, test_batch_size
        self.seconds: list[float] = []
        self.bar: Progress | None = None
        self.started = self.compiling = self.evaluation_started = 0.0

    def start(self, epoch: int, step: int = 0) -> None:
        """Begins an epoch, at a step."""
        self.started, self.first = time.monotonic(), step
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True)),
                BarColumn(max(8, min(40, self.console.width - 72)), table_column=Column(no_wrap=True)),
                TaskProgressColumn(table_column=Column(no_wrap=True)),
                _TimeLeft(table_column=Column(no_wrap=True)),
                _Status(),
                console=self.console,
                transient=True,
            )
            self.bar.add_task(
                f"{self.label} {epoch + 1}/{self.epochs}",
                total=self.steps,
                completed=step,
                status="compiling the step…" if not self.seconds else "",
            )
            self.bar.start()

    def compiled(self) -> None:
        """Notes that the step has run for the first time: later epochs do not compile."""
        self.compiling = time.monotonic() - self.started

    def wants(self, step: int, count: int = 1) -> bool:
        """Whether `advance` shows figures after this step, for which they must be fetched.

        Args:
            step: The last step.
            count: How many steps were done at once: it shows them where one of these is due.
        """
        if self.bar is not None:
            return step % 5 < count or step == self.steps
        return bool(self.print_every) and step % self.print_every < count

    def advance(self, step: int, logs: Mapping[str, float]) -> None:
        """Shows how far the epoch is after a step."""
        status = f"loss {logs['loss']:.3f}  accuracy {logs.get('accuracy', 0):.1%}"
        if self.rate(step):
            status += f"  {self.rate(step):,.0f} images/s"
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=step, status=status)
        else:
            self.console.print(f"  step {step}/{self.steps}  {status}")

    def rate(self, step: int) -> float:
        """Images per second in this epoch up to a step; 0 where that is not known."""
        seconds = time.monotonic() - self.started
        return (step - self.first) * self.batch_size / seconds if seconds > 0 else 0.0

    def evaluating(self, step: int = 0) -> None:
        """Says how far the evaluation is; step 0 begins it."""
        if step == 0:
            self.evaluation_started = time.monotonic()
        seconds, status = time.monotonic() - self.evaluation_started, "on the held-out images"
        if step and self.test_batch_size and seconds > 0:
            status += f"  {step * self.test_batch_size / seconds:,.0f} images/s"
        self._show(self.test_steps or None, step, status)

    def saving(self) -> None:
        """Says that the evaluation is done, too, and that what came of the epoch is written to disk."""
        self._show(None, 0, "saving…")

    def _show(self, total: int | None, completed: int, status: str) -> None:
        """Puts something else than training steps on the bar; without a `total` the bar only moves.

        Where nothing is completed yet, the clock of the bar begins again.
        """
        if self.bar is None:
            return
        task = self.bar.tasks[0]
        if completed:
            self.bar.update(task.id, total=total, completed=completed, status=status)
        else:
            task.total = total  # a `total` of None is for `reset` "as it is"
            self.bar.reset(task.id, total=total, status=status)

    def finish(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Replaces the bar by a line."""
        self.close()
        self.seconds.append(time.monotonic() - self.started)
        took = logs.get("seconds", self.seconds[-1])  # of a resumed epoch those before the stop as well
        left = self.epochs - epoch - 1 + self.epochs_after
        usual = statistics.median(self.seconds[1:] or [self.seconds[0] - self.compiling])
        figures = "  ".join(f"{label} {form(logs[key])}" for key, label, form in _FIGURES if key in logs)
        self.console.print(
            f"{self.label} {epoch + 1}/{self.epochs}  {figures}  {duration(took)}"
            + (f"  left {duration(left * usual)}" if left else "")
        )

    def close(self) -> None:
        """Takes the bar away, also when training was interrupted."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("learning_rate", "lr", lambda value: f"{value:.3g}"),
    ("loss", "loss", lambda value: f"{value:.3f}"),
    ("accuracy", "accuracy", lambda value: f"{value:.1%}"),
    ("val_accuracy", "test accuracy", lambda value: f"{value:.2%}"),
)
