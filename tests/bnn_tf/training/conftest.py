"""Runs of a tiny network on a few digits."""

import dataclasses
import io

import pytest
from rich.console import Console

from bnn_tf._tensorflow import tf
from bnn_tf.data.images import Flip, Images, PadCrop
from bnn_tf.methods import get
from bnn_tf.training import Run, RunConfig, Session, train, trainer
from zoo import recipes

PHASE = recipes.Phase(epochs=2, batch_size=16, optimizer=recipes.SGD(learning_rate=0.05))
IMAGES = Images((PadCrop(4), Flip()), size=8, normalization="unit")


@pytest.fixture
def recipe(tiny):
    """`recipe("ovsw", epochs=2)`: one phase for the tiny network; `recipe("ovsw", phases=(…))`: several."""

    def make(method="bireal", phases=None, **phase):
        return recipes.Recipe(
            method=get(method),
            model="tiny",
            dataset="digits",
            phases=phases or (dataclasses.replace(PHASE, **phase),),
            images=IMAGES,
        )

    return make


@pytest.fixture
def configuration():
    """A configuration of a recipe on 48 digits: three batches of 16."""

    def make(recipe, **options):
        names = tuple(str(digit) for digit in range(10))
        return RunConfig(recipe, limit=48, class_names=names, **options).located()

    return make


@pytest.fixture
def new_run(configuration, tmp_path):
    """`new_run(recipe)` in a folder of its own."""

    def make(recipe, name="run", **options):
        return Run.create(configuration(recipe, **options), tmp_path / name)

    return make


@pytest.fixture
def session():
    """A session that writes into a string: `session.console.file.getvalue()`."""
    return Session(Console(file=io.StringIO(), soft_wrap=True, markup=False, highlight=False))


@pytest.fixture(scope="module")
def _references():
    return {}


@pytest.fixture
def reference(_references, configuration, tmp_path_factory, session):
    """`reference(recipe)`: the run that trained it in one go, deterministically; once per module."""

    def get(recipe, **options):
        key = repr((recipe, options))
        if key not in _references:
            config = configuration(recipe, deterministic=True, **options)
            run = Run.create(config, tmp_path_factory.mktemp("runs") / "run")
            train(run, session)
            _references[key] = run
        return _references[key]

    return get


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt("train", epoch, step)` raises an error after that step of a phase, once; both from 0."""
    original = trainer.PhaseTraining.save_if_due

    def prepare(phase, epoch, step, error=KeyboardInterrupt):
        def save_if_due(self, *at):
            original(self, *at)
            if (self.phase.name, *at[:2]) == (phase, epoch, step + 1):
                monkeypatch.setattr(trainer.PhaseTraining, "save_if_due", original)
                raise error

        monkeypatch.setattr(trainer.PhaseTraining, "save_if_due", save_if_due)

    return prepare


@pytest.fixture
def send(monkeypatch):
    """`send("train", epoch, step, number)` sends this process a signal during that step, once; both from 0.

    Step -1 is the evaluation.
    """
    import os

    step_of = trainer.PhaseTraining.save_if_due
    evaluate = trainer.PhaseTraining.evaluate

    def prepare(phase, epoch, step, number):
        def save_if_due(self, *at):
            if (self.phase.name, *at[:2]) == (phase, epoch, step + 1):
                monkeypatch.setattr(trainer.PhaseTraining, "save_if_due", step_of)
                os.kill(os.getpid(), number)
            step_of(self, *at)

        def evaluating(self, at, *rest, **options):
            if (self.phase.name, at, -1) == (phase, epoch, step):
                monkeypatch.setattr(trainer.PhaseTraining, "evaluate", evaluate)
                os.kill(os.getpid(), number)
            return evaluate(self, at, *rest, **options)

        monkeypatch.setattr(trainer.PhaseTraining, "save_if_due", save_if_due)
        monkeypatch.setattr(trainer.PhaseTraining, "evaluate", evaluating)

    return prepare


@pytest.fixture(autouse=True)
def _no_determinism_afterwards():
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()
    tf.keras.backend.clear_session()
