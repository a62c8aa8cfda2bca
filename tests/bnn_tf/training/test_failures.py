"""What can go wrong in a training is said in one sentence, and the run can go on."""

import dataclasses

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.training import Run, build, train


def test_a_full_disk_is_one_clear_error(recipe, new_run, session, quick_fit, monkeypatch):
    run = new_run(recipe())

    def full(*_):
        raise OSError(28, "No space left on device", str(run.weights_path))

    with monkeypatch.context() as patch:
        patch.setattr(tf.keras.Model, "save_weights", full)
        with pytest.raises(UserError, match="epoch 1 cannot be saved in .*No space left on device"):
            train(run, session)
    train(run, session)
    assert run.position() == (0, 2)


def test_nan_is_an_error_and_not_a_finished_run(recipe, new_run, session):
    run = new_run(recipe(learning_rate=1e38, schedule="constant"))
    message = r"not finite any more in epoch \d of phase train: try a lower --learning-rate"
    with pytest.raises(UserError, match=message):
        train(run, session)
    assert (run.position() or (0, 0))[1] < 2


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor")]
)
def test_out_of_memory_names_the_batch_size(error, recipe, new_run, session, interrupt, quick_fit):
    interrupt("train", 0, 0, error)
    with pytest.raises(UserError, match="--batch-size"):
        train(new_run(recipe()), session)


def test_other_classes_than_at_the_start(recipe, new_run, session):
    run = new_run(recipe())
    other = Run(run.path, dataclasses.replace(run.config, class_names=("a", "b")))
    with pytest.raises(UserError, match="other classes"):
        train(other, session)


def test_two_processes_cannot_train_the_same_run(recipe, new_run, session):
    run = new_run(recipe())
    with run.claimed(), pytest.raises(UserError, match="another process is training"):
        train(run, session)


def test_a_damaged_checkpoint_is_named(recipe, new_run, session, quick_fit):
    run = new_run(recipe())
    train(run, session)
    data = next(run.checkpoint_dir(0).glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(UserError, match="checkpoint in .*1-train is damaged"):
        train(run, session)
    with pytest.raises(UserError, match="checkpoint in .*1-train is damaged"):
        build.load_run_model(run)


@pytest.mark.parametrize("method", ["recu", "subbit"])
def test_without_checkpoints_the_weights_file_serves(method, recipe, new_run, session, quick_fit):
    run = new_run(recipe(method))
    weights = train(run, session).get_weights()
    for path in run.checkpoint_dir(0).iterdir():
        path.unlink()
    for found, wanted in zip(build.load_run_model(run).get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, wanted)
    run.weights_path.write_bytes(b"not HDF5")
    with pytest.raises(UserError, match="model.weights.h5 does not fit"):
        build.load_run_model(run)
