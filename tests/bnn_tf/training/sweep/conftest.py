"""Sweeps with tasks for the tiny network."""

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
