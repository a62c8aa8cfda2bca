"""What is shown while a run trains."""

import dataclasses
import io
import itertools
import re
import types

import pytest
from rich.console import Console

from bnn_tf.training import progress, train, trainer
from zoo.recipes import Phase

PHASES = (Phase("first", 2, 16), Phase("second", 2, 16))


def test_off_a_terminal_plain_lines(recipe, new_run, session, quick_fit):
    run = new_run(recipe(phases=PHASES))
    train(run, dataclasses.replace(session, print_every=2))
    text = session.console.file.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)  # no control characters
    assert text.startswith("Compiling the training step…\n")
    lines = [line for line in text.splitlines() if not line.startswith((" ", "Compiling"))]
    assert [line.split("  ")[0] for line in lines] == [
        "first 1/2", "first 2/2", "second 1/2", "second 2/2",
    ]  # fmt: skip
    assert all("test accuracy 40.00%" in line and "lr 0.0" in line for line in lines)
    assert ["left" in line for line in lines] == [True, True, True, False]
    assert text.count("step 2/3") == 4


def test_time_left_ends_with_the_last_phase_asked_for(recipe, new_run, session, quick_fit):
    train(new_run(recipe(phases=PHASES)), dataclasses.replace(session, until_phase="first"))
    assert "left" not in session.console.file.getvalue().splitlines()[-1]


def test_steps_in_tensorboard_do_not_depend_on_the_terminal(recipe, new_run, session, quick_fit, monkeypatch):
    logged = {}
    for name, terminal in (("file", False), ("terminal", True)):
        steps = logged[name] = []
        monkeypatch.setattr(
            trainer.PhaseTraining,
            "log",
            lambda self, step, scalars, steps=steps: steps.append((step, *scalars)),
        )
        output = Console(file=io.StringIO(), force_terminal=terminal, width=120)
        run = new_run(recipe(epochs=1, batch_size=2), name)
        train(run, dataclasses.replace(session, console=output))
    assert logged["terminal"] == logged["file"]
    assert [step for step, name, *_ in logged["file"] if name.startswith("steps/")] == [20, 24]


def test_several_steps_at_once_show_what_is_due_among_them(recipe, new_run, session, quick_fit):
    run = new_run(recipe(epochs=1, batch_size=1), steps_per_execution=7)  # 48 steps: 7, 14, … 42, 48
    train(run, dataclasses.replace(session, print_every=10))
    shown = re.findall(r"step (\d+)/48", session.console.file.getvalue())
    assert shown == ["14", "21", "35", "42"]


@pytest.mark.parametrize(("count", "seen"), [(1, [5, 10, 12]), (2, [6, 10, 12]), (3, [6, 12]), (8, [8, 12])])
def test_the_bar_moves_however_many_steps_are_done_at_once(count, seen):
    shown = progress.EpochProgress(console(120), "train", 1, 12)
    shown.start(0)
    ends = [min(step + count, 12) for step in range(0, 12, count)]
    assert [step for step in ends if shown.wants(step, count)] == seen
    shown.close()


def test_on_a_terminal_a_bar_that_goes_away(recipe, new_run, session, quick_fit):
    console = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    train(new_run(recipe(epochs=1)), dataclasses.replace(session, console=console))
    assert "\x1b[" in console.file.getvalue()
    assert "train 1/1" in console.file.getvalue().splitlines()[-1]


def console(width):
    return Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_a_narrow_terminal_cuts_the_status_and_not_the_time_left(width):
    shown = progress.EpochProgress(console(width), "train", 600, 390, batch_size=128)
    shown.start(0)
    shown.advance(5, {"loss": 2.303, "accuracy": 0.1})
    shown.close()
    text = shown.console.file.getvalue()
    assert "train 1/600" in text
    assert re.search(r"[\d-]:[\d-]{2}:[\d-]{2} +loss 2", text)
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines())) <= width


def test_the_evaluation_has_a_clock_and_a_rate_of_its_own(monkeypatch):
    # The epoch begins, its evaluation begins and shows itself, a batch of it is done.
    times = iter([0.0, 90.0, 90.0, 92.0])
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(times)))
    shown = progress.EpochProgress(console(120), "train", 2, 3, test_steps=4, test_batch_size=100)
    shown.start(0)
    for step in (1, 2, 3):
        shown.bar.update(shown.bar.task_ids[0], completed=step)
    shown.bar.refresh()
    shown.console.file.truncate(0)
    shown.evaluating()
    first = shown.console.file.getvalue()
    shown.evaluating(1)
    shown.close()
    assert "on the held-out images" in first
    assert "-:--:--" in first  # not what was left of the training steps
    assert not re.search(r"\d:\d\d:\d\d", first)
    assert "on the held-out images  50 images/s" in shown.console.file.getvalue()


def test_saving_is_neither_training_nor_evaluation():
    shown = progress.EpochProgress(console(120), "train", 2, 3, test_steps=4)
    shown.start(0)
    shown.evaluating(4)
    shown.saving()
    shown.close()
    *_, last = (line for line in shown.console.file.getvalue().splitlines() if "train" in line)
    assert "saving…" in last
    assert "%" not in last
    assert "0:00:00" not in last


def test_the_epoch_that_compiled_does_not_count_for_the_time_left(monkeypatch):
    clock = itertools.accumulate([0, 100, 0, 10, 0, 20, 0, 30])  # begin and end of each epoch
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    shown = progress.EpochProgress(Console(file=io.StringIO(), width=120), "train", 5, 3)
    for epoch in range(4):
        shown.start(epoch)
        shown.finish(epoch, {})
    left = [line.rpartition("left ")[2] for line in shown.console.file.getvalue().splitlines()]
    assert left == ["6 min 40 s", "30 s", "30 s", "20 s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (290, "4 min 50 s"), (7500, "2 h 05 min")],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text
