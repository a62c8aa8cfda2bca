"""What is wrong is said before a run directory exists; networks are built once."""

import dataclasses
import os
import types

import pytest

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import Run, RunConfig, prepare, strategies, train, trainer
from zoo import MODELS, recipes
from zoo.recipes import Distribution


def test_the_dataset_names_the_classes(recipe, session):
    prepared = prepare(RunConfig(recipe(), limit=48), session)
    assert prepared.config.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.pad_value", 1, "no option of model tiny called 'pad_value'; did you mean 'pad_values'"),
        ("model.width", "wide", "model tiny: "),
        ("start", "prevous", "prevous"),
    ],
)
def test_wrong_values(recipe, session, key, value, message):
    with pytest.raises(UserError, match=message):
        prepare(RunConfig(recipes.override(recipe(), key, value), limit=48), session)


def test_a_network_has_a_logit_for_each_class(recipe, session):
    @MODELS.register("map")
    def build(method, input_shape=(8, 8, 3), num_classes=10, weights=None):
        image = tf.keras.Input(input_shape)
        return tf.keras.Model(image, tf.keras.layers.Conv2D(num_classes, 1)(image))

    config = RunConfig(dataclasses.replace(recipe(), model="map"), limit=48)
    with pytest.raises(UsageError, match=r"one logit for each of the 10 classes.*\(None, 8, 8, 10\)"):
        prepare(config, session)


def test_paths_become_absolute(recipe, configuration, new_run, session, quick_fit, tmp_path, monkeypatch):
    train(new_run(recipe("real"), "teacher"), session)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    student = dataclasses.replace(recipe(loss=Distribution(), start="teacher"), teacher="teacher")
    config = configuration(student, init_from="teacher", data_dir="data")
    where = os.path.join(os.getcwd(), "teacher")
    assert (config.recipe.teacher, config.init_from, config.recipe.phases[0].start) == (where, where, where)
    assert config.data_dir == os.path.join(os.getcwd(), "data")


def test_a_previous_phase_is_no_folder(recipe, configuration, tmp_path, monkeypatch):
    (tmp_path / "previous").mkdir()
    monkeypatch.chdir(tmp_path)
    assert configuration(recipe()).recipe.phases[0].start == "previous"


def test_each_network_is_built_once(recipe, configuration, session, quick_fit, tmp_path, monkeypatch):
    built = []
    original = trainer.build_network
    monkeypatch.setattr(trainer, "build_network", lambda *args: built.append(args) or original(*args))
    phase = recipe().phases[0]
    real = dataclasses.replace(phase, name="real", method=methods.Real())
    prepared = prepare(configuration(recipe(phases=(real, phase))), session)
    train(Run.create(prepared.config, tmp_path / "run"), session, prepared)
    assert len(built) == 2


def test_metrics():
    assert [metric.name for metric in trainer.metrics(5)] == ["accuracy"]
    assert [metric.name for metric in trainer.metrics(6)] == ["accuracy", "top5_accuracy"]


class TestStrategies:
    @pytest.fixture
    def gpus(self, monkeypatch):
        """`gpus(2)`: TensorFlow reports two."""

        def pretend(count):
            devices = [tf.config.LogicalDevice(f"/device:GPU:{i}", "GPU") for i in range(count)]
            monkeypatch.setattr(
                tf.config, "list_logical_devices", lambda kind: devices if kind == "GPU" else []
            )

        return pretend

    def test_none_here(self, gpus):
        gpus(0)
        assert strategies.select() is tf.distribute.get_strategy()
        assert isinstance(strategies.select(0), tf.distribute.OneDeviceStrategy)

    def test_too_many(self, gpus):
        gpus(1)
        with pytest.raises(UsageError, match="sees 1 GPUs on this machine, not 2 as asked for"):
            strategies.select(2)

    @pytest.mark.parametrize(("asked", "used"), [(None, 3), (0, 0), (2, 2), (3, 3)])
    def test_as_many_as_asked(self, gpus, asked, used):
        gpus(3)
        assert [device.name for device in strategies.devices(asked)] == [
            f"/device:GPU:{i}" for i in range(used)
        ]

    def test_several_are_mirrored(self, gpus, monkeypatch):
        gpus(2)
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: devices)
        assert strategies.select() == ["/device:GPU:0", "/device:GPU:1"]


class TestCluster:
    @pytest.mark.parametrize(
        ("cluster", "environment", "message"),
        [
            ("a,b", {}, "host:port"),
            ("a:1,b:1", {}, "set the variable BNN_TF_WORKER"),
            ("a:1,b:1", {"BNN_TF_WORKER": "2"}, "BNN_TF_WORKER must be from 0 to 1"),
            (None, {"TF_CONFIG": "{"}, "TF_CONFIG is no cluster description"),
            (
                None,
                {"TF_CONFIG": '{"cluster": {}, "task": {"type": "ps", "index": 0}}'},
                "only chief and worker",
            ),
            ("slurm", {}, "SLURM's variables do not describe a job"),
        ],
    )
    def test_what_is_wrong_is_said(self, cluster, environment, message, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UsageError, match=message):
            strategies.select(None, cluster)

    def test_who_this_process_is(self, monkeypatch):
        monkeypatch.setenv("BNN_TF_WORKER", "1")
        assert strategies.workers("a:1,b:2") == (["a:1", "b:2"], 1)
        monkeypatch.setattr(strategies.socket, "gethostname", lambda: "node7")
        monkeypatch.delenv("BNN_TF_WORKER")
        assert strategies.workers("node6:1,node7:1") == (["node6:1", "node7:1"], 1)
        config = '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}'
        monkeypatch.setenv("TF_CONFIG", config)
        assert strategies.workers(None) == (["a:1", "b:1"], 1)

    def test_the_gpus_of_a_worker_are_chosen_before_the_strategy(self, monkeypatch):
        done = []
        monkeypatch.setenv("BNN_TF_WORKER", "0")
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0", "GPU:1"])
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda *which: done.append(which))
        monkeypatch.setattr(strategies, "_multi_worker", lambda *place: done.append(place))
        strategies.select(1, "a:1,b:2")
        assert done == [(["GPU:0"], "GPU"), (["a:1", "b:2"], 0)]
        with pytest.raises(UsageError, match="3 GPUs were asked for, there are 2 here"):
            strategies.select(3, "a:1,b:2")

    def test_several_replicas_are_not_compiled_as_a_whole(self, configuration, recipe, session, monkeypatch):
        monkeypatch.setattr(strategies, "select", lambda *_: types.SimpleNamespace(num_replicas_in_sync=2))
        with pytest.raises(UsageError, match=r"\(--jit\) works on one device only, there are 2"):
            prepare(configuration(recipe(), jit=True), session)
