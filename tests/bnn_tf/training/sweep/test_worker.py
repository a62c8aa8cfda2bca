"""What processes do in a sweep, with stubbed and with real training."""

import dataclasses

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import Run, RunConfig, build, evaluate, train, trainer
from bnn_tf.training.sweep import Sweep, grid, plan, work
from zoo import recipes

RESULT = {"top1": 0.5, "top5": 1.0}


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by a list of what would be trained; an exception in `errors` is raised there."""
    calls, errors = [], {}

    def stub(run, session):
        calls.append(run.path.name)
        if run.path.name in errors:
            raise errors.pop(run.path.name)
        return RESULT

    monkeypatch.setattr("bnn_tf.training.sweep.worker.train_run", stub)
    return calls, errors


@pytest.fixture
def no_determinism_afterwards():
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def test_a_process_works_off_all_tasks(start, session, trained, tasks):
    found = list(work(start(), session, {}))
    assert trained[0] == [task.name for task in tasks]
    assert [finished.outcome.task for finished in found] == tasks
    assert all(finished.outcome.result == RESULT for finished in found)
    left = [finished.left for finished in found]
    assert left[-1] is None
    assert all(seconds > 0 for seconds in left[:-1])
    assert list(work(start(), session, {})) == []


def test_a_failure_does_not_end_the_work_and_is_retried_next_time(start, session, trained):
    calls, errors = trained
    errors |= {"001-seed1": UserError("the loss is not finite"), "002-seed1": ZeroDivisionError("division")}
    found = [finished.outcome for finished in work(start(), session, {})]
    assert [outcome.state for outcome in found] == ["failed", "failed", *["complete"] * 6]
    assert [outcome.error for outcome in found[:2]] == [
        "the loss is not finite",
        "ZeroDivisionError: division",
    ]
    del calls[:]
    assert [finished.outcome.state for finished in work(start(), session, {})] == ["complete"] * 2
    assert calls == ["001-seed1", "002-seed1"]


def test_an_interruption_leaves_the_task_to_the_next(start, session, trained, tasks):
    calls, errors = trained
    errors["002-seed1"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        list(work(start(), session, {}))
    assert [outcome.state for outcome in start().outcomes()] == ["complete", *["waiting"] * 7]
    list(work(start(), session, {}))
    assert sorted(calls) == sorted([*(task.name for task in tasks), "002-seed1"])


def test_time_left_counts_epochs_and_processes(start, session, trained, monkeypatch):
    clock = iter(range(0, 1000, 10))  # each training takes 10 seconds
    monkeypatch.setattr("bnn_tf.training.sweep.worker.time.monotonic", lambda: next(clock))
    here = start()
    first = next(iter(work(here, session, {})))  # 2 epochs
    assert first.seconds == 10
    assert first.left == 5 * (3 + 2 + 3 + 2 + 3 + 2 + 3)
    other = start()
    claim = other.claim()  # of 3 epochs, which count in full until they are done
    second = next(iter(work(here, session, {})))  # 2 epochs
    assert second.left == 5 * (3 + 3 + 2 + 3 + 2 + 3) / 2
    other.finish(claim, RESULT)


def test_a_plan_goes_seed_by_seed(recipe):
    def configure(choices):
        return RunConfig(recipes.override(recipe("ovsw"), "method.delta", choices["method.delta"]), limit=40)

    tasks = plan([{"method.delta": 0.1}, {"method.delta": 0.2}], [5, 7], configure)
    assert [(task.name, task.config.recipe.method_options) for task in tasks] == [
        ("001-seed5", {"delta": 0.1}),
        ("002-seed5", {"delta": 0.2}),
        ("001-seed7", {"delta": 0.1}),
        ("002-seed7", {"delta": 0.2}),
    ]
    assert tasks[0].config.class_names == tuple("0123456789")


def test_a_plan_names_the_configuration_that_cannot_be_trained(recipe):
    def configure(choices):
        return RunConfig(recipes.override(recipe(), "momentum", choices["momentum"]), limit=40)

    with pytest.raises(UsageError, match=r"^momentum=1\.5: momentum must be in \[0, 1\)"):
        plan([{"momentum": 0.5}, {"momentum": 1.5}], [1], configure)


def test_a_plan_finds_configurations_that_are_the_same(recipe):
    axes = {"momentum": [0.5, 0.9], "train.momentum": [0.1]}

    def configure(choices):
        chosen = recipe()
        for key, value in choices.items():
            chosen = recipes.override(chosen, key, value)
        return RunConfig(chosen, limit=40)

    twice = r"momentum=0\.5 train\.momentum=0\.1 is the same as momentum=0\.9 train\.momentum=0\.1"
    with pytest.raises(UsageError, match=twice):
        plan(grid(axes), [1], configure)


class Kill(tf.keras.callbacks.Callback):
    """Raises in the middle of the second epoch; notes which epochs begin."""

    def __init__(self, begun, kill):
        super().__init__()
        self.begun, self.kill = begun, kill

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if self.kill and (self.begun[-1], batch) == (1, 1):
            raise KeyboardInterrupt


@pytest.mark.usefixtures("no_determinism_afterwards")
def test_an_interrupted_sweep_gives_what_training_alone_gives(
    recipe, configuration, session, tmp_path, monkeypatch
):
    config = configuration(recipe("ovsw", epochs=2), deterministic=True)
    alone = Run.create(dataclasses.replace(config, seed=2), tmp_path / "alone")
    train(alone, session)

    callbacks, epochs = trainer._callbacks, []
    kills = iter([True, False])
    monkeypatch.setattr(trainer, "_callbacks", lambda *a: [*callbacks(*a), Kill(epochs, next(kills))])

    def sweep():
        return Sweep.start(tmp_path / "sweep", {}, {}, lambda: plan([{}], [2], lambda _: config))

    with pytest.raises(KeyboardInterrupt):
        list(work(sweep(), session, {}))
    (finished,) = work(sweep(), session, {})
    assert epochs == [0, 1, 1]
    assert finished.resumed_epochs == 1
    run = Run.open(finished.outcome.run_dir)
    figures = [[row[key] for key in ("loss", "val_accuracy")] for row in run.metrics()]
    assert figures == [[row[key] for key in ("loss", "val_accuracy")] for row in alone.metrics()]
    network = build.load_run_model(run)
    exact = evaluate(network.predict_on_batch, build.source(config), build.preprocessing(config.recipe))
    assert finished.outcome.result == pytest.approx({"top1": exact.top1, "top5": exact.top5}, abs=1e-6)
    for found, wanted in zip(network.get_weights(), build.load_run_model(alone).get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
