"""Sweeps with tasks for the tiny network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bnn_tf.training import RunConfig
from bnn_tf.training.sweep import Sweep, Task, grid

GRID = {"method.delta": [0.02, 0.04], "epochs": [2, 3]}


@pytest.fixture
def tasks(recipe):
    """Four configurations, two seeds."""

    def config(choices, seed):
        chosen = recipe("ovsw", epochs=choices["epochs"], method_options={"delta": choices["method.delta"]})
        return RunConfig(chosen, seed=seed, limit=40, class_names=tuple("0123456789"))

    return [
        Task(number, choices, config(choices, seed))
        for seed in (1, 2)
        for number, choices in enumerate(grid(GRID), 1)
    ]


@pytest.fixture
def start(tasks, tmp_path):
    """`start()` makes or opens the sweep; `start(limit=7)` asks for another one there."""

    def make(path=tmp_path / "sweep", **asked):
        return Sweep.start(path, {"grid": GRID, **asked}, GRID, lambda: tasks)

    return make


@pytest.fixture
def worker(tasks, tmp_path):
    """`worker("all")` and `worker("one")` start a process that works on the sweep, see `worker.py`."""
    described = [{"number": t.number, "choices": t.choices, "config": t.config.to_dict()} for t in tasks]
    (tmp_path / "tasks.json").write_text(json.dumps({"grid": GRID, "tasks": described}))
    script = Path(__file__).with_name("worker.py")

    def begin(how_many):
        arguments = [sys.executable, script, tmp_path / "tasks.json", tmp_path / "sweep", how_many]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    return begin
