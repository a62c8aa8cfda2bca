"""Training in phases: stopping anywhere and resuming changes nothing."""

import csv
import dataclasses
import re

import numpy as np
import pytest

from bnn_tf import observe
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import Run, build, train, trainer
from zoo.recipes import Phase


@pytest.fixture(autouse=True)
def _no_determinism_afterwards():
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def rows(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics()]


def records(run):
    """What was written about the kernels after each epoch."""
    return observe.read(run.path / "diagnostics.jsonl")


def checkpoint(run, phase):
    """All tensors of the last checkpoint: weights, optimizer, its step, method state."""
    reader = tf.train.load_checkpoint(run.checkpoint_dir(phase))
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE")]
    # Keras numbers the quantizers of a process; the number is in their variables' names.
    return {re.sub(r"_\d+\.S", ".S", n): reader.get_tensor(n) for n in names if "save_counter" not in n}


def assert_same_run(actual, expected):
    assert rows(actual) == rows(expected)
    assert records(actual) == records(expected)
    for phase in range(len(expected.config.recipe.phases)):
        found, wanted = checkpoint(actual, phase), checkpoint(expected, phase)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    for found, wanted in zip(
        build.load_run_model(actual).get_weights(), build.load_run_model(expected).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_resumed_equals_uninterrupted(recipe, new_run, session, interrupt, reference):
    """With Adam and codebooks; below ReCU, and in test_train.py OvSW, resume as well."""
    given = recipe("subbit", optimizer="adam", learning_rate=1e-2, schedule="linear")
    stopped = new_run(given, deterministic=True)
    interrupt("train", 1, 1)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, session)
    assert stopped.position() == (0, 1)
    assert [row["epoch"] for row in stopped.metrics()] == ["1"]
    train(Run.open(stopped.path), session)
    assert_same_run(stopped, reference(given))
    assert [row["epoch"] for row in stopped.metrics()] == ["1", "2"]


PHASES = (
    Phase(
        "relu",
        2,
        16,
        learning_rate=0.05,
        schedule="constant",
        method={"name": "real", "activation_name": "relu"},
    ),
    Phase("binarize", 2, 16, learning_rate=0.02, schedule="multistep", schedule_options={"milestones": (1,)}),
    Phase(
        "norm",
        2,
        20,
        learning_rate=0.02,
        method={"name": "bireal", "scaled": False},
        binarize_kernels=True,
        trainable="batch_norm",
    ),
)


@pytest.fixture
def uninterrupted(recipe, reference):
    return reference(recipe(phases=PHASES))


def test_a_run_of_several_phases_resumes_in_the_second(recipe, new_run, session, interrupt, uninterrupted):
    stopped = new_run(recipe(phases=PHASES), deterministic=True)
    interrupt("binarize", 1, 1)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, session)
    assert stopped.position() == (1, 1)
    train(Run.open(stopped.path), session)
    assert_same_run(stopped, uninterrupted)


def test_phases_do_what_they_say(uninterrupted, session):
    run = uninterrupted
    assert [(row["phase"], row["epoch"]) for row in run.metrics()] == [
        (phase, epoch) for phase in ("relu", "binarize", "norm") for epoch in ("1", "2")
    ]
    assert [float(row["learning_rate"]) for row in run.metrics()][:4] == pytest.approx(
        [0.05, 0.05, 0.02, 0.002]
    )
    relu, binarize, norm = (checkpoint(run, phase) for phase in range(3))
    kernels = {phase: tensors["model/layer_with_weights-2/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
               for phase, tensors in (("binarize", binarize), ("norm", norm))}  # fmt: skip
    assert set(np.unique(kernels["norm"])) == {-1.0, 1.0}
    np.testing.assert_array_equal(kernels["norm"], np.where(kernels["binarize"] >= 0, 1.0, -1.0))
    moved = {
        name.split("/")[-3] for name in norm
        if name.startswith("model/layer") and "OPTIMIZER_SLOT" not in name
        and not np.array_equal(norm[name], binarize[name])
    }  # fmt: skip
    assert moved == {"gamma", "beta", "moving_mean", "moving_variance", "kernel"}
    stem = "model/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    np.testing.assert_array_equal(norm[stem], binarize[stem])
    assert not np.array_equal(relu[stem], binarize[stem])


def test_a_phase_starts_from_the_one_before(uninterrupted, monkeypatch, recipe, new_run, session):
    """The kernels at the start of the second phase are those at the end of the first."""
    seen = {}

    def record(run, index, network, *_):
        seen[index] = [w.copy() for w in network.get_weights()]

    monkeypatch.setattr(trainer, "_train_phase", record)
    train(new_run(recipe(phases=PHASES[:2])), session)
    for first, second in zip(seen[0], seen[1], strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def quick_reference(quick_fit, recipe, new_run, session):
    """What an uninterrupted run looks like where nothing is really computed."""

    def get(recipe):
        run = new_run(recipe, "uninterrupted")
        train(run, session)
        return run

    return get


def test_the_comparison_sees_another_seed(recipe, new_run, session, quick_reference):
    other = new_run(recipe("ovsw"), seed=2)
    reference = quick_reference(recipe("ovsw"))
    train(other, session)
    assert rows(other) == rows(reference)  # the figures of `quick_fit`
    with pytest.raises(AssertionError):
        assert_same_run(other, reference)


@pytest.mark.parametrize(("phase", "epoch"), [("relu", 1), ("binarize", 0), ("norm", 0)])
def test_every_phase_resumes(phase, epoch, recipe, new_run, session, interrupt, quick_reference):
    run = new_run(recipe(phases=PHASES))
    interrupt(phase, epoch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    train(Run.open(run.path), session)
    assert_same_run(run, quick_reference(recipe(phases=PHASES)))


def test_until_phase(recipe, new_run, session, quick_reference):
    run = new_run(recipe(phases=PHASES))
    for until in ("relu", "relu", "binarize"):  # the second finds the phase complete and only returns
        network = train(run, dataclasses.replace(session, until_phase=until))
        assert run.position() == ({"relu": 0, "binarize": 1}[until], 2)
        assert isinstance(network, tf.keras.Model)
    with pytest.raises(UsageError, match="in phase binarize already"):
        train(run, dataclasses.replace(session, until_phase="relu"))
    with pytest.raises(UsageError, match="'binarise'; did you mean 'binarize'"):
        train(run, dataclasses.replace(session, until_phase="binarise"))
    train(run, session)
    assert_same_run(run, quick_reference(recipe(phases=PHASES)))


def test_a_finished_run_only_returns(recipe, new_run, session, quick_fit, monkeypatch):
    run = new_run(recipe())
    trained = train(run, session).get_weights()
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(tf.keras.Model, "fit", None)
    for found, wanted in zip(train(run, session).get_weights(), trained, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()} == before


def test_interrupted_before_the_first_epoch(recipe, new_run, session, interrupt, quick_reference):
    run = new_run(recipe())
    interrupt("train", 0, 0)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    assert run.position() is None
    assert run.metrics() == []
    with pytest.raises(UserError, match="not one epoch is complete"):
        build.load_run_model(run)
    train(Run.open(run.path), session)
    assert_same_run(run, quick_reference(recipe()))


def test_interrupted_before_the_first_epoch_of_a_start_from_a_run(
    recipe, new_run, session, interrupt, quick_reference
):
    start = quick_reference(recipe("real", epochs=1))
    whole, run = (new_run(recipe(epochs=1), name, init_from=str(start.path)) for name in ("whole", "run"))
    train(whole, session)
    interrupt("train", 0, 0)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    train(Run.open(run.path), session)
    assert_same_run(run, whole)


@pytest.mark.parametrize("last_written", ["metrics", "weights"])
def test_died_while_saving(last_written, recipe, new_run, session, quick_reference, monkeypatch):
    """Whatever is written when the process dies, the epoch is trained again and nothing stands twice."""
    run = new_run(recipe())
    place = {
        "metrics": (tf.keras.Model, "save_weights"),
        "weights": (tf.train.CheckpointManager, "save"),
    }[last_written]
    original, calls = getattr(*place), []

    def die_the_second_time(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(*place, die_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            train(run, session)
    assert run.position() == (0, 1)
    assert len(run.metrics()) == 2  # the second row is of the epoch that does not count yet
    np.testing.assert_array_equal(
        build.load_run_model(run).get_weights()[0],
        checkpoint(run, 0)["model/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"],
    )
    train(Run.open(run.path), session)
    assert_same_run(run, quick_reference(recipe()))


def test_a_moved_run_goes_on(recipe, new_run, session, interrupt, tmp_path, quick_reference):
    run = new_run(recipe())
    interrupt("train", 1, 0)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    moved = Run.open(run.path.rename(tmp_path / "moved"))
    train(moved, session)
    assert_same_run(moved, quick_reference(recipe()))
    assert not run.path.exists()


def test_a_teacher(recipe, new_run, session, interrupt, reference):
    """Distillation resumes as well, and saves the student alone."""
    teacher = reference(recipe("real", epochs=1))
    student = dataclasses.replace(
        recipe("recu", loss="distribution", weight_decay=1e-3, schedule_options={"warmup": 2}),
        teacher=str(teacher.path),
    )
    run = new_run(student, deterministic=True)
    interrupt("train", 1, 1)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    network = train(Run.open(run.path), session)
    assert_same_run(run, reference(student))
    assert [w.shape for w in build.load_run_model(run).get_weights()] == [
        w.shape for w in network.get_weights()
    ]
    assert not any("teacher" in name for name in checkpoint(run, 0))
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(run.metrics()[0])


def test_run_directory_is_complete(uninterrupted):
    run = uninterrupted
    names = {path.relative_to(run.path).parts[0] for path in run.path.rglob("*")}
    assert names == {
        "config.json", "environment.json", "metrics.csv", "diagnostics.jsonl", "checkpoints",
        "model.weights.h5", "tensorboard",
    }  # fmt: skip
    with (run.path / "metrics.csv").open() as file:
        assert next(csv.reader(file))[:2] == ["phase", "epoch"]
    assert {path.name for path in (run.path / "tensorboard").iterdir()} == {"relu", "binarize", "norm"}
    assert len(list(run.checkpoint_dir(0).glob("*.index"))) == 1
