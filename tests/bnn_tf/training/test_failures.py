"""What can go wrong in a training is said in one sentence, nothing is lost, and the run can go on."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest

from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.training import ClaimedError, Position, Run, StoppedError, checkpoints, train, trainer
from bnn_tf.training.signals import Signals
from zoo.recipes import SGD


def weights_of(run):
    return run.load_network().get_weights()


def assert_equal(actual, wanted):
    for one, other in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def whole(recipe, new_run, session, quick_fit):
    """The weights after both epochs of an undisturbed run."""
    run = new_run(recipe(), "whole")
    train(run, session)
    return weights_of(run)


@pytest.fixture
def trained(recipe, new_run, session, quick_fit):
    """A run of two epochs, complete."""
    run = new_run(recipe())
    train(run, session)
    return run


@pytest.fixture
def half(recipe, new_run, session, quick_fit, interrupt):
    """A run of three epochs with two complete."""
    run = new_run(recipe(epochs=3))
    interrupt("train", 2, 0)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    assert run.position() == Position(0, 2)
    return run


class TestLoss:
    @pytest.mark.sample(1)
    @pytest.mark.parametrize("rate", [1e38, 1e12])
    def test_beyond_all_bounds_is_an_error_and_not_a_finished_run(self, rate, recipe, new_run, session):
        run = new_run(recipe(optimizer=SGD(learning_rate=rate)))
        message = r"the loss (is not finite any more|has grown to .*) in epoch 1 of phase train: try a lower"
        with pytest.raises(UserError, match=message) as error:
            train(run, session)
        assert run.position() is None
        assert "keeps" not in str(error.value)  # there is nothing to keep

    def test_what_is_kept_is_said_where_there_is_something(self, half, session, monkeypatch):
        monkeypatch.setattr(trainer, "EXPLODED", 0)
        with pytest.raises(
            UserError, match=r"has grown to [\d.]+ in epoch 3 of .*; .*run keeps the 2 epochs before"
        ):
            train(half, session)


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor")]
)
def test_out_of_memory_names_the_batch_size(error, recipe, new_run, session, interrupt, quick_fit):
    interrupt("train", 0, 0, error)
    with pytest.raises(UserError, match="smaller batch size"):
        train(new_run(recipe()), session)


def test_other_classes_than_at_the_start(recipe, new_run, session):
    run = new_run(recipe())
    other = Run(run.path, dataclasses.replace(run.config, class_names=("a", "b")))
    with pytest.raises(UserError, match="other classes"):
        train(other, session)


def test_two_processes_cannot_train_the_same_run(recipe, new_run, session):
    run = new_run(recipe())
    with run.claimed(), pytest.raises(ClaimedError, match="another process is training"):
        train(run, session)
    assert not run.is_claimed()


class TestDisk:
    def test_a_full_disk_while_weights_are_written(self, recipe, new_run, session, whole, monkeypatch):
        run = new_run(recipe())
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
            with pytest.raises(UserError, match=r"cannot write .*model\.weights\.h5: 0 bytes are free"):
                train(run, session)
        train(run, session)
        assert_equal(weights_of(run), whole)

    def test_a_full_disk_while_a_checkpoint_is_written(self, recipe, new_run, session, whole, monkeypatch):
        run = new_run(recipe())

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(tf.train.Checkpoint, "write", full)
            with pytest.raises(UserError, match="cannot save a checkpoint in .*: No space left on device"):
                train(run, session)
        assert list(run.checkpoints.phase_folder(0).iterdir()) == []  # no partial file stays
        train(run, session)
        assert_equal(weights_of(run), whole)

    @pytest.mark.sample(2)
    @pytest.mark.parametrize("place", ["write", "rename", "save_weights", "write_metrics"])
    def test_dying_while_saving_loses_nothing(self, place, recipe, new_run, session, whole, monkeypatch):
        """Whatever is written when the process dies, the run goes on, and no row is there twice."""
        owner = {"write": tf.train.Checkpoint, "rename": os, "save_weights": Run, "write_metrics": Run}[place]
        name = {"rename": "replace"}.get(place, place)
        original, calls = getattr(owner, name), []

        def die(*args, **kwargs):
            calls.append(args)
            if len(calls) == (6 if place == "rename" else 2):
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        run = new_run(recipe())
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with pytest.raises(KeyboardInterrupt):
                train(run, session)
        train(Run.open(run.path), session)
        assert_equal(weights_of(run), whole)
        assert [row["epoch"] for row in run.metrics()] == ["1", "2"]
        assert run.weights_position() == Position(0, 2)

    def test_the_order_of_writes_survives_a_power_cut(self, half, monkeypatch):
        """Everything is on the disk before the name appears, and the name before anything is deleted."""
        events = []
        rename, unlink = checkpoints.Path.rename, checkpoints.Path.unlink
        sync = files.sync

        def recorded_sync(path):
            events.append(("sync", os.path.basename(path)))
            sync(path)

        def recorded_rename(path, target):
            events.append(("rename", target.name))
            return rename(path, target)

        def recorded_unlink(path, **options):
            if path.exists():
                events.append(("delete", path.parent.name))
            unlink(path, **options)

        monkeypatch.setattr(files, "sync", recorded_sync)
        monkeypatch.setattr(checkpoints.Path, "rename", recorded_rename)
        monkeypatch.setattr(checkpoints.Path, "unlink", recorded_unlink)
        variables = tf.train.Checkpoint(v=tf.Variable(1.0))
        half.checkpoints.save(variables, 0, 3, 0, [])
        kinds = [kind for kind, _ in events]
        last_sync_before, renamed = kinds.index("rename") - 1, kinds.index("rename")
        before = [name for kind, name in events[:renamed] if kind == "sync"]
        assert {"state.index", "state.data-00000-of-00001"} <= set(before)
        assert any(name.startswith(".epoch-3.") for name in before[2:])  # the folder, after its files
        assert before[-1].startswith(".epoch-3.")  # and after state.json
        assert kinds[last_sync_before] == "sync"
        assert events[renamed] == ("rename", "epoch-3")
        after = events[renamed + 1 :]
        assert after[0] == ("sync", "1-train")
        assert after[-1] == ("delete", "epoch-1")
        assert {saved.epoch for saved in half.checkpoints.all()} == {2, 3}

    def test_the_best_is_kept(self, half):
        variables = tf.train.Checkpoint(v=tf.Variable(1.0))
        for epoch, score in ((3, 0.9), (4, 0.5), (5, 0.6), (6, 0.7)):
            half.checkpoints.save(variables, 0, epoch, 0, [], score=score)
        assert [saved.epoch for saved in half.checkpoints.all()] == [3, 5, 6]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


class TestDamage:
    def test_of_the_newest_checkpoint_the_one_before_serves(self, half, recipe, new_run, session):
        whole = new_run(recipe(epochs=3), "whole")
        train(whole, session)
        damage(half.checkpoints.all()[-1].path / "state.data-00000-of-00001")
        assert_equal(half.load_network().get_weights(), half.load_network().get_weights())
        train(half, session)
        assert "epoch-2/state.data-00000-of-00001 is damaged" in session.console.file.getvalue()
        assert_equal(weights_of(half), weights_of(whole))
        assert [row["epoch"] for row in half.metrics()] == ["1", "2", "3"]

    @pytest.mark.parametrize("how", ["damaged", "state.json", "deleted"])
    def test_of_all_checkpoints_is_no_reason_to_start_again(self, how, half, session):
        for saved in half.checkpoints.all():
            if how == "deleted":
                shutil.rmtree(saved.path)
            else:
                damage(saved.path / ("state.json" if how == "state.json" else "state.index"))
        before = {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()}
        message = "was trained before .phase train, 2 epochs., but no checkpoint of it can be used"
        with pytest.raises(UserError, match=message):
            train(half, session)
        assert {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()} == before
        network = half.config and Run.open(half.path)
        if how == "deleted":
            weights = weights_of(network)
            train(half, dataclasses.replace(session, restart_from_weights=True))
            assert [row["epoch"] for row in half.metrics()] == ["1", "2", "3"]
            assert not np.array_equal(weights_of(half)[0], weights[0])

    def test_restarting_begins_with_the_last_weights(self, half, session, monkeypatch):
        shutil.rmtree(half.path / "checkpoints")
        expected = weights_of(half)
        seen = []
        original = trainer.PhaseTraining.begin_epoch

        def begin_epoch(self, epoch, *rest):
            seen.append((epoch, self.network.get_weights()))
            original(self, epoch, *rest)

        monkeypatch.setattr(trainer.PhaseTraining, "begin_epoch", begin_epoch)
        train(half, dataclasses.replace(session, restart_from_weights=True))
        assert [epoch for epoch, _ in seen] == [2]
        assert_equal(seen[0][1], expected)

    def test_a_finished_run_without_checkpoints_stays_as_it_is(self, trained, session):
        shutil.rmtree(trained.path / "checkpoints")
        expected = weights_of(trained)
        before = {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")}
        result = train(trained, session)
        assert_equal(result.network.get_weights(), expected)
        assert {path: path.stat().st_mtime_ns for path in trained.path.rglob("*")} == before

    @pytest.mark.sample(2)
    @pytest.mark.parametrize("content", [None, "", "phase,epoch\ntrain", "\0\0", "phase,epoch,x\n1\n"])
    def test_of_metrics_is_mended_from_the_checkpoint(self, content, half, session):
        rows = half.metrics()
        path = half.path / "metrics.csv"
        path.unlink()
        if content is not None:
            path.write_text(content)
        train(half, session)
        assert half.metrics()[:2] == rows
        assert "metrics.csv was written again" in session.console.file.getvalue()

    def test_of_weights_is_noticed(self, trained):
        shutil.rmtree(trained.path / "checkpoints")
        damage(trained.weights_path)
        with pytest.raises(UserError, match=r"model\.weights\.h5 is damaged: its checksum"):
            trained.load_network()
        (trained.path / "model.weights.json").unlink()
        trained.weights_path.write_bytes(b"not HDF5")
        with pytest.raises(UserError, match=r"model\.weights\.h5 does not fit"):
            trained.load_network()

    def test_what_killed_processes_left_is_removed(self, half, session):
        folder = half.checkpoints.phase_folder(0)
        (half.path / ".metrics.csv.123.part").touch()
        (folder / ".epoch-3.123.part").mkdir()
        (folder / "epoch-7").mkdir()  # one whose state.json was deleted first
        (folder / "epoch-7" / "state.index").touch()
        assert half.position() == Position(0, 2)
        train(half, session)
        assert not list(half.path.rglob("*.part"))
        assert not (folder / "epoch-7").exists()

    def test_checkpoints_of_another_network_are_refused(self, half, session):
        config = json.loads((half.path / "config.json").read_text())
        config["recipe"]["method"] = {"name": "recu"}
        (half.path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match="is damaged or of another network"):
            train(Run.open(half.path), session)


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["recu", "subbit"])
def test_without_checkpoints_the_weights_file_serves(method, recipe, new_run, session, quick_fit):
    run = new_run(recipe(method))
    weights = train(run, session).network.get_weights()
    shutil.rmtree(run.path / "checkpoints")
    assert_equal(weights_of(run), weights)


class TestSignals:
    def test_before_there_is_anything_to_save(self, recipe, new_run, session, monkeypatch):
        run = new_run(recipe())
        monkeypatch.setattr(trainer, "build_network", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(
            StoppedError, match=r"stopped \(SIGTERM\); there was nothing new to save"
        ) as stopped:
            train(run, session)
        assert stopped.value.exit_code == 143
        assert run.position() is None

    def test_while_the_step_is_traced(self, recipe, new_run, session, monkeypatch, capfd):
        """TensorFlow wraps every exception in the middle of a trace in pages of its own text."""
        run = new_run(recipe())
        original = tf.keras.Model.train_step

        def train_step(model, data):
            os.kill(os.getpid(), signal.SIGTERM)
            return original(model, data)

        monkeypatch.setattr(tf.keras.Model, "train_step", train_step)
        with pytest.raises(StoppedError, match=r"stopped \(SIGTERM\); there was nothing new") as stopped:
            train(run, session)
        assert stopped.value.exit_code == 143
        assert capfd.readouterr() == ("", "")
        assert run.position() is None

    def test_while_the_evaluation_is_traced(self, recipe, new_run, session, monkeypatch, capfd):
        """The trained epoch is saved before: nothing waits for the trace, and nothing is lost."""
        run, whole = (new_run(recipe(ema=0.9), name, deterministic=True) for name in ("run", "whole"))
        original, finished = trainer.Evaluator.test_step, []

        def test_step(model, data):
            os.kill(os.getpid(), signal.SIGTERM)
            finished.append(original(model, data))
            return finished[-1]

        with monkeypatch.context() as patch:
            patch.setattr(trainer.Evaluator, "test_step", test_step)
            with pytest.raises(StoppedError, match="in epoch 1 of ., after step 3 of 3") as stopped:
                train(run, session)
        assert stopped.value.exit_code == 143
        assert finished == []
        assert capfd.readouterr() == ("", "")
        assert run.position() == Position(0, 0, 3)
        for one in (run, whole):
            train(Run.open(one.path), session)
        assert_equal(weights_of(run), weights_of(whole))
        without_time = [[{**row, "seconds": ""} for row in one.metrics()] for one in (run, whole)]
        assert without_time[0] == without_time[1]

    def test_before_the_evaluation_it_is_not_even_begun(
        self, recipe, new_run, session, send, quick_fit, monkeypatch
    ):
        run = new_run(recipe())
        send("train", 0, -1, signal.SIGTERM)
        monkeypatch.setattr(tf.keras.Model, "evaluate", None)
        with pytest.raises(StoppedError, match="in epoch 1 of ., after step 3 of 3"):
            train(run, session)
        assert run.position() == Position(0, 0, 3)

    def test_in_a_destructor_the_step_in_hand_is_finished(self, recipe, new_run, session, monkeypatch, capfd):
        """Python cannot raise there: it prints what was raised, and goes on."""

        class Dying:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)

        run = new_run(recipe())
        original = tf.keras.Model.train_step

        def train_step(model, data):
            Dying()
            return original(model, data)

        monkeypatch.setattr(tf.keras.Model, "train_step", train_step)
        with pytest.raises(StoppedError, match="in epoch 1 of ., after step 1 of 3"):
            train(run, session)
        assert capfd.readouterr() == ("", "")
        assert run.position() == Position(0, 0, 1)

    def test_an_error_while_saving_is_not_hidden_by_the_signal(
        self, recipe, new_run, session, send, quick_fit, monkeypatch
    ):
        run = new_run(recipe())
        send("train", 0, 0, signal.SIGTERM)

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tf.train.Checkpoint, "write", full)
        with pytest.raises(UserError, match="cannot save a checkpoint in .*: No space left on device"):
            train(run, session)

    def test_handlers_are_put_back(self, trained):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with Signals():
            assert signal.getsignal(signal.SIGTERM) != before[0]
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        assert before[0] is signal.SIG_DFL

    def test_a_second_ends_the_process(self, monkeypatch):
        sent = []
        with Signals() as signals:
            signals.hold = True
            signal.raise_signal(signal.SIGTERM)
            assert signals.received == signal.SIGTERM
            monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert sent == [(os.getpid(), signal.SIGTERM)]


class TestCadence:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("30s", (30, None)), ("10m", (600, None)), ("2h", (7200, None)), ("5steps", (None, 5)),
         ("epoch", (None, None))],
    )  # fmt: skip
    def test_is_read(self, text, expected, recipe, configuration):
        assert tuple(configuration(recipe(), checkpoint_every=text).cadence) == expected

    @pytest.mark.parametrize("text", ["", "0s", "-1m", "10", "1.5h", "nan", "steps", "1e9steps"])
    def test_nonsense_is_refused(self, text, recipe, configuration):
        with pytest.raises(UserError, match="checkpoints are saved every"):
            configuration(recipe(), checkpoint_every=text)

    def test_steps(self, recipe, new_run, session, quick_fit, interrupt):
        run = new_run(recipe(), checkpoint_every="2steps")
        interrupt("train", 0, 1)
        with pytest.raises(KeyboardInterrupt):
            train(run, session)
        assert run.position() == Position(0, 0, 2)

    def test_time(self, recipe, new_run, session, quick_fit, interrupt, monkeypatch):
        clock = iter(range(0, 10**6, 20))
        monkeypatch.setattr(trainer.time, "monotonic", lambda: next(clock))
        run = new_run(recipe(), checkpoint_every="30s")
        interrupt("train", 0, 1)
        with pytest.raises(KeyboardInterrupt):
            train(run, session)
        assert run.position().step > 0
