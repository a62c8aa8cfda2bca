"""What is wrong is said before a run directory exists."""

import dataclasses
import os

import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import build, strategies, teachers, train
from zoo import recipes


def test_the_dataset_names_the_classes(recipe, configuration):
    assert configuration(recipe()).class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", 0, "epochs must be at least 1, not 0"),
        ("batch_size", 0, "batch_size must be at least 1"),
        ("test_batch_size", 0, "test_batch_size must be at least 1"),
        ("rate_batch_size", "many", "rate_batch_size must be"),
        ("learning_rate", -0.1, "learning_rate must be positive and finite"),
        ("learning_rate", float("nan"), "learning_rate must be positive and finite"),
        ("learning_rate", float("inf"), "learning_rate must be positive and finite"),
        ("momentum", 1.0, r"momentum must be in \[0, 1\)"),
        ("weight_decay", -1.0, "weight_decay must be zero or positive"),
        ("label_smoothing", 1.0, "label_smoothing must be in"),
        ("optimizer", "adm", "no optimizer called 'adm'; did you mean 'adam'"),
        ("schedule", "cosin", "no schedule called 'cosin'; did you mean 'cosine'"),
        ("schedule.warmpu", 5, "no option of schedule cosine called 'warmpu'; did you mean 'warmup'"),
        ("schedule.warmup", "five", "schedule cosine cannot run with"),
        ("loss", "cross_entropie", "no loss called 'cross_entropie'; did you mean 'cross_entropy'"),
        ("decay_only", "kernel", "no decay_only called 'kernel'; did you mean 'kernels'"),
        ("trainable", "batchnorm", "no trainable called 'batchnorm'; did you mean 'batch_norm'"),
        ("augmentation", "flip", "no augmentation called 'flip'"),
        ("normalization", "imagnet", "no normalization called 'imagnet'; did you mean 'imagenet'"),
        ("method.clipvalue", 2, "no option of method bireal called 'clipvalue'; did you mean 'clip_value'"),
        ("model.pad_value", 1, "no option of model tiny called 'pad_value'; did you mean 'pad_values'"),
        ("model.width", "wide", "model tiny: "),
        ("start", "prevous", "prevous"),
    ],
)
def test_wrong_values(recipe, configuration, key, value, message):
    with pytest.raises(UserError, match=message):
        configuration(recipes.override(recipe(), key, value))


def test_the_exit_code_tells_wrong_usage(recipe, configuration):
    with pytest.raises(UsageError):
        configuration(recipe(epochs=0))


def test_paths_become_absolute(recipe, configuration, new_run, session, quick_fit, tmp_path, monkeypatch):
    run = new_run(recipe("real"), "teacher")
    train(run, session)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    student = dataclasses.replace(recipe(loss="distribution", start="teacher"), teacher="teacher")
    (tmp_path / "previous").mkdir()  # is not what `start="previous"` means
    assert configuration(recipe()).recipe.phases[0].start == "previous"
    config = configuration(student, init_from="teacher", data_dir="data")
    where = os.path.join(os.getcwd(), "teacher")
    assert (config.recipe.teacher, config.init_from, config.recipe.phases[0].start) == (where, where, where)
    assert config.data_dir == os.path.join(os.getcwd(), "data")


def test_a_run_to_start_from_must_exist_and_fit(recipe, configuration, new_run, session, quick_fit):
    with pytest.raises(UserError, match="nowhere is no run directory: it does not exist"):
        configuration(recipe(), init_from="nowhere")
    run = new_run(recipe())
    with pytest.raises(UserError, match="not one epoch is complete"):
        configuration(recipe(), init_from=str(run.path))
    train(run, session)
    configuration(recipe("ovsw"), init_from=str(run.path))
    other = dataclasses.replace(recipe(), model="vgg_small", image_size=(32, 32))
    with pytest.raises(UserError, match="no kernel of the source fits"):
        configuration(other, init_from=str(run.path))


def test_phases_must_fit_together(recipe, configuration):
    """It is not after hours that the second phase turns out to lack weights."""
    phase = recipe().phases[0]
    real = dataclasses.replace(phase, name="real", method={"name": "real"})
    with pytest.raises(
        UserError, match="not carry over completely:\\n.*\\n2 without a source: body_conv/tau, "
    ):
        configuration(recipe("recu", phases=(real, phase)))
    with pytest.raises(UserError, match="3 without a source: body_conv/codebook, "):
        configuration(recipe("subbit", phases=(real, phase)))
    configuration(recipe("recu", phases=(real, dataclasses.replace(phase, fresh_variables=("tau", "scale")))))
    configuration(recipe("recu", phases=(real, dataclasses.replace(phase, start="random"))))


def test_distillation_needs_a_teacher(recipe, configuration):
    with pytest.raises(UserError, match="needs a --teacher"):
        configuration(recipe(loss="distribution"))


def test_a_teacher_must_exist_and_fit(recipe, configuration, new_run, session, quick_fit, tiny, tmp_path):
    def with_teacher(path, **changes):
        return dataclasses.replace(recipe(loss="distribution"), teacher=str(path), **changes)

    with pytest.raises(UserError, match="there is no saved model at nowhere"):
        configuration(with_teacher("nowhere"))
    run = new_run(recipe())
    with pytest.raises(UserError, match="not one epoch is complete"):
        configuration(with_teacher(run.path))
    train(run, session)
    with pytest.raises(
        UserError, match=r"normalization unit, this recipe has cifar; .*--set normalization=unit"
    ):
        configuration(with_teacher(run.path, normalization="cifar"))
    with pytest.raises(UserError, match="takes images of 8×8, this recipe has 16×16"):
        configuration(with_teacher(run.path, image_size=(16, 16)))
    tiny(num_classes=4).save(tmp_path / "four.keras")
    with pytest.raises(UserError, match="knows 4 classes, digits has 10"):
        configuration(with_teacher(tmp_path / "four.keras"))
    tiny(input_shape=(None, None, 3)).save(tmp_path / "any.keras")
    config = configuration(with_teacher(tmp_path / "any.keras", image_size=(16, 16)))
    assert teachers.load(config).name == "tiny"


def test_variants_are_built_once(recipe, configuration, monkeypatch):
    built = []
    original = build.model
    monkeypatch.setattr(build, "model", lambda *args: built.append(args) or original(*args))
    phase = recipe().phases[0]
    real = dataclasses.replace(phase, name="real", method={"name": "real"})
    last = dataclasses.replace(phase, name="last")
    configuration(recipe(phases=(real, phase, last)))
    assert len(built) == 2


class TestBuild:
    def test_rate_follows_the_batch(self, recipe):
        phase = dataclasses.replace(
            recipe().phases[0], learning_rate=0.1, batch_size=64, rate_batch_size=256, schedule="constant"
        )
        assert build.learning_rate(phase)(0, 10) == pytest.approx(0.025)
        assert float(build.optimizer(recipe(), phase).learning_rate) == pytest.approx(0.025)

    def test_metrics(self):
        assert [metric.name for metric in build.metrics(5)] == ["accuracy"]
        assert [metric.name for metric in build.metrics(6)] == ["accuracy", "top5_accuracy"]

    def test_preprocessing_is_the_phase_s(self, recipe):
        phases = tuple(
            dataclasses.replace(recipe().phases[0], name=name, augmentation=name)
            for name in ("none", "pad_crop_flip")
        )
        found = [build.preprocessing(recipe(phases=phases), phase).training for phase in (*phases, None)]
        assert found == [(), (data.PadCrop(4), data.Flip()), (data.PadCrop(4), data.Flip())]
        assert build.preprocessing(recipe()).mean == data.NORMALIZATIONS["unit"][0]

    def test_the_phase_s_method_wins(self, recipe):
        phase = dataclasses.replace(recipe().phases[0], method={"name": "real", "activation_name": "clip"})
        assert build.phase_method(recipe("recu"), phase).get_config() == {
            "name": "real",
            "activation_name": "clip",
        }
        options = recipe("recu", method_options={"tau_min": 0.6})
        assert build.phase_method(options, options.phases[0]).tau_min == 0.6

    def test_decay_reaches_the_optimizer(self, recipe):
        phase = dataclasses.replace(recipe().phases[0], weight_decay=0.01, decay_only="kernels", momentum=0.5)
        optimizer = build.optimizer(recipe(), phase)
        assert optimizer.transforms[-1].get_config() == {"rate": 0.01, "only": "kernels"}
        assert optimizer.get_config()["momentum"] == 0.5


class TestStrategies:
    @pytest.fixture
    def gpus(self, monkeypatch):
        """`gpus(2)`: TensorFlow reports two."""

        def pretend(count):
            found = [tf.config.LogicalDevice(f"/device:GPU:{i}", "GPU") for i in range(count)]
            monkeypatch.setattr(
                tf.config, "list_logical_devices", lambda kind: found if kind == "GPU" else []
            )

        return pretend

    def test_none_here(self, gpus):
        gpus(0)
        assert strategies.select() is tf.distribute.get_strategy()
        assert isinstance(strategies.select(0), tf.distribute.OneDeviceStrategy)

    def test_too_many(self, gpus):
        gpus(1)
        with pytest.raises(UsageError, match="--gpus 2: TensorFlow sees 1 GPUs"):
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
