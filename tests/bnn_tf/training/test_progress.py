"""What is shown while a run trains."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from bnn_tf.training import progress, train
from zoo.recipes import Phase

PHASES = (Phase("first", 2, 16), Phase("second", 2, 16))


def test_off_a_terminal_plain_lines(recipe, new_run, session, quick_fit):
    run = new_run(recipe(phases=PHASES))
    train(run, dataclasses.replace(session, print_every=2))
    text = session.console.file.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)  # no control characters
    assert text.startswith("Compiling the training step…\n")
    lines = [line for line in text.splitlines() if not line.startswith((" ", "Building", "Compiling"))]
    assert [line.split("  ")[0] for line in lines] == [
        "first 1/2", "first 2/2", "second 1/2", "second 2/2",
    ]  # fmt: skip
    assert all("test accuracy 40.00%" in line and "lr 0.0" in line for line in lines)
    assert ["left" in line for line in lines] == [True, True, True, False]
    assert text.count("step 2/3") == 4


def test_time_left_ends_with_the_last_phase_asked_for(recipe, new_run, session, quick_fit):
    train(new_run(recipe(phases=PHASES)), dataclasses.replace(session, until_phase="first"))
    assert "left" not in session.console.file.getvalue().splitlines()[-1]


def test_on_a_terminal_a_bar_that_goes_away(recipe, new_run, session, quick_fit):
    console = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    train(new_run(recipe(epochs=1)), dataclasses.replace(session, console=console))
    assert "\x1b[" in console.file.getvalue()
    assert "train 1/1" in console.file.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (290, "4 min 50 s"), (7500, "2 h 05 min")],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text
