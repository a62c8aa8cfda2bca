"""Runs of a tiny network on a few digits."""

import dataclasses
import io

import pytest
from rich.console import Console

from bnn_tf._tensorflow import tf
from bnn_tf.training import Run, RunConfig, Session, checks, train, trainer
from zoo import recipes

PHASE = recipes.Phase(epochs=2, batch_size=16, learning_rate=0.05, augmentation="pad_crop_flip")


@pytest.fixture
def recipe(tiny):
    """`recipe("ovsw", epochs=2)`: one phase for the tiny network; `recipe("ovsw", phases=(…))`: several."""

    def make(method="bireal", phases=None, method_options=None, **phase):
        return recipes.Recipe(
            method=method,
            model="tiny",
            dataset="digits",
            phases=phases or (dataclasses.replace(PHASE, **phase),),
            method_options=method_options or {},
            image_size=(8, 8),
            normalization="unit",
        )

    return make


@pytest.fixture
def configuration():
    """A checked configuration of a recipe on 48 digits: three batches of 16."""

    def make(recipe, **options):
        return checks.checked(RunConfig(recipe, limit=48, **options))

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

    def get(recipe):
        key = repr(recipe)
        if key not in _references:
            run = Run.create(
                configuration(recipe, deterministic=True), tmp_path_factory.mktemp("runs") / "run"
            )
            train(run, session)
            _references[key] = run
        return _references[key]

    return get


class Interruption(tf.keras.callbacks.Callback):
    """Raises `error` after a step of an epoch, both counted from 0."""

    def __init__(self, epoch, step, error=KeyboardInterrupt):
        super().__init__()
        self.at, self.error = (epoch, step), error

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise self.error


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt("train", epoch, step)` lets the next training of that phase be interrupted there, once."""
    original = trainer._callbacks

    def prepare(phase, *at):
        def with_interruption(run, index, *rest):
            found = original(run, index, *rest)
            if run.config.recipe.phases[index].name == phase:
                monkeypatch.setattr(trainer, "_callbacks", original)
                found.append(Interruption(*at))
            return found

        monkeypatch.setattr(trainer, "_callbacks", with_interruption)

    return prepare
