"""`load_model`: what `model.save` wrote, clear errors for anything else, and no code from files."""

import importlib.util
import json
import os
import struct
import sys
import types
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf import hdf5, load_model, methods, model_files, quantizers, report
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UnknownClassError, UserError
from bnn_tf.losses import SmoothedCrossentropy
from bnn_tf.model_files import UnsafeModelError

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
layers = tf.keras.layers
FORMATS = ("model.keras", "model.h5", "saved")


def hostile_files():
    """The script that makes the hostile files."""
    path = Path(__file__).parents[2] / "scripts" / "check_hostile_files.py"
    spec = importlib.util.spec_from_file_location("check_hostile_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOSTILE = hostile_files()


def save(model, path):
    """Writes a model in the format that the name says."""
    model.save(path, **({} if path.suffix else {"save_format": "tf"}))
    return path


def reloads(model, path, **options):
    """Saves and loads a model; its output must be the same."""
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("f")
    loaded = load_model(save(model, path), **options)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5, atol=1e-5)
    return loaded


def network(*hidden, shape=(8, 8, 4)):
    """A functional network of layers, each of which takes the one before."""
    x = image = tf.keras.Input(shape)
    for layer in hidden:
        x = layer(x)
    return tf.keras.Model(image, x)


def test_a_path_stands_for_its_model_wherever_a_model_is_taken(tmp_path):
    size = {"input_shape": (8, 8, 3)}
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(8, 3, **size),
            tf.keras.layers.Conv2D(8, 3, name="inner"),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(2),
        ]
    )
    for path in (tmp_path / "net.keras", str(tmp_path / "net.h5"), tmp_path / "folder"):
        model.save(path)
        assert bnn_tf.lint(path) == bnn_tf.lint(model)
        assert report.account(path) == report.account(model)
        assert bnn_tf.binarize_report(bnn_tf.binarize(path, "recu")).binary == ("inner",)
        bnn_tf.convert(path, tmp_path / "net.tflite", parity=False)
        for source in (path, tmp_path / "net.tflite"):
            assert bnn_tf.export_c(source, tmp_path / "net.c", check=False).real_convolutions == 3
    for take in (bnn_tf.lint, report.account, lambda path: bnn_tf.binarize(path, "recu")):
        with pytest.raises(UserError, match="there is no saved model at"):
            take(tmp_path / "nothing.keras")


class TestWhatSaveWrote:
    @pytest.mark.sample(3)
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("method", ["bireal", "recu", "subbit", "ovsw"])
    def test_methods(self, tiny, rng, tmp_path, method, name):
        """With the optimizer and the loss of a network that was trained."""
        method = methods.get(method)
        model = tiny(method=method)
        optimizer = method.optimizer("sgd", learning_rate=0.01, weight_decay=1e-4)
        model.compile(optimizer, SmoothedCrossentropy(0.1), metrics=["accuracy"], run_eagerly=True)
        model.train_on_batch(rng.normal(size=(4, 8, 8, 3)).astype("f"), rng.integers(0, 10, 4))
        loaded = reloads(model, tmp_path / name)
        assert isinstance(loaded.loss, SmoothedCrossentropy)
        assert [type(t) for t in loaded.optimizer.transforms] == [type(t) for t in optimizer.transforms]

    def test_path_as_text(self, tiny, tmp_path):
        save(tiny(), tmp_path / "model.keras")
        assert load_model(str(tmp_path / "model.keras")).name == "tiny"

    @pytest.mark.sample(2)
    @pytest.mark.parametrize("name", FORMATS)
    def test_layers_of_keras(self, tmp_path, name):
        branches = [
            layers.Conv2D(4, 3, padding="same", activation="gelu", kernel_regularizer="l1_l2"),
            layers.SeparableConv2D(4, 3, padding="same", depthwise_constraint="max_norm"),
            layers.Conv2DTranspose(
                4, 3, padding="same", kernel_initializer=tf.keras.initializers.HeNormal(1)
            ),
            layers.Activation("hard_sigmoid"),
            layers.PReLU(),
            layers.LeakyReLU(),
            layers.ReLU(6.0),
            layers.GaussianNoise(0.1),
            layers.TimeDistributed(layers.Dense(4, activation=tf.nn.relu)),
        ]
        image = tf.keras.Input((8, 8, 4))
        y = layers.concatenate([branch(image) for branch in branches])
        y = layers.BatchNormalization()(layers.Rescaling(1 / 255)(y))
        y = layers.UpSampling2D(2)(layers.MaxPool2D()(layers.ZeroPadding2D(1)(y)))
        y = layers.LayerNormalization()(layers.DepthwiseConv2D(3)(y))
        y = layers.Dense(3, activation=layers.LeakyReLU(0.1))(layers.GlobalAvgPool2D()(y))
        inner = tf.keras.Sequential(
            [tf.keras.Input((3,)), layers.Dense(4), layers.Dropout(0.1)], name="inner"
        )
        model = tf.keras.Model(image, layers.Softmax(dtype="float32")(inner(y)))
        schedule = tf.keras.optimizers.schedules.CosineDecay(0.1, 10)
        loss = tf.keras.losses.SparseCategoricalCrossentropy()
        metrics = ["accuracy", tf.keras.metrics.SparseTopKCategoricalAccuracy(5), "mse"]
        model.compile(tf.keras.optimizers.Adam(schedule), loss, metrics=metrics)
        reloads(model, tmp_path / name)

    @pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw", tf.keras.optimizers.legacy.Adam(0.1)])
    def test_optimizers(self, tmp_path, optimizer):
        model = network(layers.Flatten(), layers.Dense(1))
        model.compile(optimizer, "binary_crossentropy", metrics=[["mae", "AUC"]])
        reloads(model, tmp_path / "model.keras")
        reloads(model, tmp_path / "model.h5")

    @pytest.mark.sample(2)
    @pytest.mark.parametrize("name", FORMATS)
    def test_calls_of_tensorflow(self, tmp_path, name):
        image = tf.keras.Input((8, 8, 4))
        y = tf.nn.relu(image) * 2 + image[:, :, :, :4] - 1
        y = tf.transpose(tf.clip_by_value(tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]), -1, 1), [0, 2, 1, 3])
        y = tf.where(y > 0, y, tf.abs(y)) / (tf.math.reduce_std(y, -1, keepdims=True) + 1)
        y = tf.keras.activations.swish(tf.nn.space_to_depth(y, 2))
        a, b = tf.split(tf.reduce_mean(y, [1, 2]), 2, -1)
        y = tf.nn.softmax(tf.concat([tf.sign(a), tf.cast(b, tf.float32)], -1))
        reloads(tf.keras.Model(image, tf.image.resize(y[:, None, :, None], (4, 4))), tmp_path / name)

    @pytest.mark.sample(2)
    @pytest.mark.parametrize("name", FORMATS)
    def test_larq(self, tmp_path, name):
        options = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
        with lq.context.metrics_scope(["flip_ratio"]):
            model = network(
                lq.layers.QuantConv2D(8, 3, **options),
                lq.layers.QuantDepthwiseConv2D(3, input_quantizer=lq.quantizers.SteHeaviside()),
                lq.layers.QuantConv2D(8, 3, input_quantizer="approx_sign", pad_values=1, **options),
                # Keras itself cannot load functions of others from HDF5.
                *([] if name.endswith(".h5") else [layers.Activation("hard_tanh")]),
            )
        model.compile(lq.optimizers.CaseOptimizer(default_optimizer=tf.keras.optimizers.legacy.Adam()), "mse")
        x = np.ones((1, 8, 8, 4), "f")
        np.testing.assert_allclose(load_model(save(model, tmp_path / name))(x), model(x), rtol=1e-5)

    @pytest.mark.parametrize("name", FORMATS[:2])
    def test_mixed_precision(self, tmp_path, name):
        policy = tf.keras.mixed_precision.Policy("mixed_float16")
        reloads(network(layers.Conv2D(4, 3, dtype=policy), layers.Flatten(dtype="float32")), tmp_path / name)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", FORMATS[:2])
    @pytest.mark.parametrize("model", zoo.list_models())
    def test_zoo(self, tmp_path, model, name):
        built = zoo.get_model(model)(method="recu", input_shape=(64, 64, 3), num_classes=4)
        reloads(built, tmp_path / name)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("model", ["QuickNetSmall", "BinaryDenseNet28", "RealToBinaryNet", "XNORNet"])
    def test_larq_zoo(self, tmp_path, model, name):
        import larq_zoo

        part = larq_zoo.sota if model == "QuickNetSmall" else larq_zoo.literature
        reloads(getattr(part, model)(weights=None, input_shape=(64, 64, 3), num_classes=4), tmp_path / name)


class TestTheCallersOwn:
    @pytest.mark.sample(2)
    @pytest.mark.parametrize("name", FORMATS)
    def test_passed_by_the_caller(self, tmp_path, name):
        class Twice(layers.Layer):
            def __init__(self, activation="anything", **options):
                super().__init__(**options)
                self.activation = activation

            def get_config(self):
                return super().get_config() | {"activation": self.activation}

            def call(self, x):
                return 2 * x

        model = network(Twice(), layers.Activation(quantizers.ApproxSign()))
        loaded = reloads(model, tmp_path / name, custom_objects={"Twice": Twice})
        assert isinstance(loaded.layers[1], Twice)

    @pytest.mark.slow
    def test_function_and_registered_class(self, tmp_path):
        def halved(x):
            return x / 2

        @tf.keras.utils.register_keras_serializable("test_model_files")
        class Thrice(layers.Layer):
            def call(self, x):
                return 3 * x

        model = network(layers.Activation(halved), Thrice())
        reloads(model, tmp_path / "model.keras", custom_objects={"halved": halved})
        with pytest.raises(UnsafeModelError, match="names 'halved'.*pass it as custom_objects={'halved': …}"):
            load_model(tmp_path / "model.keras")

    @pytest.mark.parametrize("name", FORMATS[:2])
    def test_unknown_layer(self, tmp_path, name):
        class Unknown(layers.Layer):
            pass

        save(network(Unknown()), tmp_path / name)
        with pytest.raises(UnknownClassError, match="Unknown 'unknown.*' names 'Unknown'.*custom_objects"):
            load_model(tmp_path / name)
        with (
            pytest.warns(UserWarning, match="unchecked"),
            pytest.raises(UnknownClassError, match="names 'Unknown'.*custom_objects"),
        ):
            load_model(tmp_path / name, safe=False)

    def test_classes_of_a_module_can_be_made_known(self, tmp_path):
        module = types.ModuleType("someones_layers")

        class Fourfold(layers.Layer):
            __module__ = "someones_layers"

            def call(self, x):
                return 4 * x

        class Dense(Fourfold):
            __module__ = "someones_layers"

        module.Fourfold, module.Dense, module.Conv2D = Fourfold, Dense, layers.Conv2D
        save(network(Fourfold()), tmp_path / "model.keras")
        with pytest.raises(UnknownClassError) as caught:
            load_model(tmp_path / "model.keras")
        assert caught.value.module == "someones_layers"
        known = dict(tf.keras.utils.get_custom_objects())
        model_files.register_classes(module)
        try:
            assert isinstance(load_model(tmp_path / "model.keras").layers[1], Fourfold)
            assert tf.keras.utils.get_custom_objects().keys() - known == {"Fourfold"}
        finally:
            del tf.keras.utils.get_custom_objects()["Fourfold"]

    @pytest.mark.slow
    def test_unknown_layer_of_a_saved_model(self, tmp_path):
        """Keras builds it from the operations in the file."""

        class Unknown(layers.Layer):
            def call(self, x):
                return 2 * x

        reloads(network(Unknown()), tmp_path / "saved")

    @pytest.mark.parametrize("name", FORMATS[:2])
    def test_unknown_quantizer(self, tmp_path, name):
        """Keras says that text is not callable."""

        def mine(x):
            return tf.sign(x)

        save(network(lq.layers.QuantConv2D(4, 3, kernel_quantizer=mine, use_bias=False)), tmp_path / name)
        with pytest.raises(
            UnsafeModelError, match="QuantConv2D 'quant_conv2d.*' names 'mine'.*custom_objects"
        ):
            load_model(tmp_path / name)
        if name == "model.keras":  # Keras cannot load such an HDF5 file at all
            load_model(tmp_path / name, custom_objects={"mine": mine})


class TestHostileFiles:
    @pytest.mark.parametrize("name", HOSTILE.FILES)
    def test_refused_in_one_line(self, tmp_path, name):
        marker = tmp_path / "marker"
        path = HOSTILE.FILES[name](tmp_path, marker)
        with pytest.raises(UnsafeModelError) as refusal:
            load_model(path)
        assert not list(tmp_path.parent.glob("**/marker*"))
        message = str(refusal.value)
        assert message.startswith(f"{path} ")
        # What is only unknown may be the user's own; everything else is advised against.
        assert message.endswith(("only if you trust its author", "': …}"))
        assert "\n" not in message
        assert len(message) - len(str(path)) < 300

    @pytest.mark.slow
    @pytest.mark.parametrize("name", [name for name in HOSTILE.FILES if name not in HOSTILE.HARMLESS])
    def test_the_payload_works(self, tmp_path, name):
        """Otherwise the test above would prove nothing; it also shows that `safe=False` loads the file."""
        marker = tmp_path / "marker"
        path = HOSTILE.FILES[name](tmp_path, marker)
        with pytest.warns(UserWarning, match="is loaded unchecked: code in it runs with your rights"):
            HOSTILE.attempt(path, safe=False)
        assert list(tmp_path.glob("marker*"))

    def test_names_in_the_inbound_nodes(self, tmp_path):
        def change(config):
            config["config"]["layers"][1]["inbound_nodes"][0][0][3]["x"] = {"a": [{"class_name": "Popen"}]}

        with pytest.raises(UnsafeModelError, match="names 'Popen'"):
            load_model(HOSTILE.archive(tmp_path, change))

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("activation", "get", "names 'get' as its activation"),
            ("kernel_initializer", {"class_name": "Zeros", "module": "os", "config": {}}, "names 'Zeros' of"),
            ("kernel_initializer", {"class_name": ["Zeros"]}, "whose name is no text"),
            (
                "x",
                {"class_name": "TextVectorization", "config": {"vocabulary": "/etc/passwd"}},
                "reads the file",
            ),
            ("x", {"class_name": "__numpy__", "config": {"value": 1, "dtype": "U999"}}, "type 'U999'"),
            ("x", {"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": 1}, "os.x"),
            (
                "x",
                {"class_name": "TypeSpec", "type_spec": "Other", "serialized": []},
                "specification 'Other'",
            ),
            ("x", {"class_name": "get_file", "module": "keras.utils", "config": {}}, "keras.utils.get_file"),
            (
                "x",
                {"class_name": "function", "module": "keras.utils", "config": "get_file"},
                "names keras.utils.get_file",
            ),
            ("x", {"class_name": "function", "module": "builtins", "config": "eval"}, "names 'eval'"),
            (
                "x",
                {"class_name": "function", "module": "os", "config": "relu"},
                "names 'relu' of the module 'os'",
            ),
            (
                "x",
                {"class_name": "Dense", "module": "keras.layers", "registered_name": "Lambda"},
                "runs Python",
            ),
        ],
    )
    def test_names_of_a_layer(self, tmp_path, key, value, message):
        path = HOSTILE.archive(
            tmp_path, lambda config: config["config"]["layers"][-1]["config"].update({key: value})
        )
        with pytest.raises(UnsafeModelError, match=message):
            load_model(path)

    def test_deep_nesting(self, tmp_path):
        path = HOSTILE.archive(tmp_path, lambda config: None)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", "[" * 100_000)
            archive.writestr("model.weights.h5", "")
        with pytest.raises(UnsafeModelError, match="nested too deeply"):
            load_model(path)

    def test_large_array(self, tmp_path):
        """A chunked array of HDF5 takes no space on the disk until it is written."""
        path = HOSTILE.hdf5(tmp_path, lambda config: None)
        with h5py.File(path, "r+") as file:
            file.create_dataset("model_weights/huge", (2**40,), "f", chunks=(1024,))
        with pytest.raises(UnsafeModelError, match=r"would take 4\.4e\+03 GB"):
            load_model(path)

    @pytest.mark.parametrize("how", ["external storage", "virtual", "soft link"])
    def test_references(self, tmp_path, how):
        path = HOSTILE.hdf5(tmp_path, lambda config: None)
        with h5py.File(path, "r+") as file:
            if how == "external storage":
                file.create_dataset("model_weights/x", (8,), "u1", external=[("/etc/passwd", 0, 8)])
            elif how == "virtual":
                layout = h5py.VirtualLayout((8,), "f")
                layout[:] = h5py.VirtualSource("other.h5", "x", (8,))
                file.create_virtual_dataset("model_weights/x", layout)
            else:
                file["model_weights/x"] = h5py.SoftLink("/elsewhere")
        with pytest.raises(UnsafeModelError, match="in another file|another place"):
            load_model(path)


class TestDamage:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(UserError, match="there is no saved model at .*nothing.keras"):
            load_model(tmp_path / "nothing.keras")

    @pytest.mark.parametrize("name", ["text.keras", "text.h5", "text", "folder"])
    def test_something_else(self, tmp_path, name):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text("not a model")
        with pytest.raises(UserError, match=f"{name} does not load as a Keras model"):
            load_model(path)

    def test_fifo(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.keras")
        with pytest.raises(UserError, match="is no regular file"):
            load_model(tmp_path / "pipe.keras")

    def test_archive_of_another_name(self, tiny, tmp_path):
        save(tiny(), tmp_path / "model.keras").rename(tmp_path / "model.zip")
        with pytest.raises(UserError, match=r"has to end in \.keras"):
            load_model(tmp_path / "model.zip")

    def test_weights_only(self, tiny, tmp_path):
        tiny().save_weights(tmp_path / "model.weights.h5")
        with pytest.raises(UserError, match="holds weights only, no network"):
            load_model(tmp_path / "model.weights.h5")

    def test_no_keras_model(self, tmp_path):
        tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
        with pytest.raises(UserError, match="no Keras model"):
            load_model(tmp_path / "saved")

    @pytest.mark.sample(1)
    @pytest.mark.parametrize("name", FORMATS)
    def test_flipped_bytes(self, tiny, tmp_path, name, rng, monkeypatch):
        """Whatever a damaged file does, the error is ours."""
        monkeypatch.setattr(hdf5, "PATIENCE", 2)
        path = save(tiny(), tmp_path / name)
        damaged = path / "saved_model.pb" if path.is_dir() else path
        whole = damaged.read_bytes()
        for _ in range(20):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 8):
                data[place] ^= 1 << int(rng.integers(8))
            damaged.write_bytes(data)
            try:
                model_files.check_model(path)
            except UserError as error:
                assert str(path) in str(error)  # noqa: PT017

    @pytest.mark.parametrize("name", ["model.h5", "model.keras"])
    def test_hdf5_without_end(self, tmp_path, name, monkeypatch):
        """The length of a text that was made 2 GB keeps HDF5's library busy for minutes, or for ever."""
        path = save(HOSTILE.network(), tmp_path / "model.h5")
        with h5py.File(path, "r+") as file:
            file.attrs["victim"] = ["marked"]
        data = path.read_bytes()
        end = data.index(b"marked")
        assert end > 0
        heap = data.rindex(b"GCOL", 0, end)
        text = struct.pack("<IQ", len("marked"), heap)
        path.write_bytes(data.replace(text, struct.pack("<IQ", 2**31 - 1, heap)))
        if name == "model.keras":
            other = HOSTILE.archive(tmp_path, lambda config: None)
            with zipfile.ZipFile(other) as archive:
                configuration = archive.read("config.json")
            with zipfile.ZipFile(other, "w") as archive:
                archive.writestr("config.json", configuration)
                archive.write(path, "model.weights.h5")
        model_files.check_model(
            HOSTILE.archive(tmp_path, lambda config: None, "whole.keras")
        )  # the worker runs
        monkeypatch.setattr(hdf5, "PATIENCE", 1)
        with pytest.raises(UserError, match=rf"{name} is damaged: "):
            load_model(tmp_path / name)
        model_files.check_model(tmp_path / "whole.keras")  # a new worker serves the next file

    @pytest.mark.parametrize("keep", [0, 100, 5000])
    def test_cut_short(self, tiny, tmp_path, keep):
        path = save(tiny(), tmp_path / "model.h5")
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(UserError, match=r"model\.h5"):
            load_model(path)

    def test_configuration_without_layers(self, tmp_path):
        path = HOSTILE.archive(tmp_path, lambda config: config.update(config={"name": "x"}))
        with pytest.raises(UserError, match="does not load as a Keras model: "):
            load_model(path)


class TestWeights:
    @pytest.mark.parametrize("name", ["model.weights.h5", "model.h5", "model.keras", "checkpoint"])
    def test_round_trip(self, tiny, tmp_path, name):
        model, other = tiny(), tiny()
        model.save(tmp_path / name) if name == "model.keras" else model.save_weights(tmp_path / name)
        model_files.load_weights(other, tmp_path / name)
        for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_of_another_network(self, tiny, tmp_path):
        tiny(width=8).save_weights(tmp_path / "model.h5")
        with pytest.raises(UserError, match=r"model\.h5 does not fit the network tiny"):
            model_files.load_weights(tiny(), tmp_path / "model.h5")

    def test_nothing_there(self, tiny, tmp_path):
        with pytest.raises(UserError, match="there are no weights at"):
            model_files.load_weights(tiny(), tmp_path / "model.h5")

    def test_link_to_another_file(self, tiny, tmp_path):
        tiny().save_weights(tmp_path / "model.h5")
        with h5py.File(tmp_path / "model.h5", "r+") as file:
            file["link"] = h5py.ExternalLink("/secret.h5", "x")
        with pytest.raises(UnsafeModelError, match="another place or file"):
            model_files.load_weights(tiny(), tmp_path / "model.h5")


def test_nothing_is_imported_by_the_check(tmp_path):
    path = HOSTILE.archive(tmp_path, lambda config: config.update(module="antigravity", class_name="Thing"))
    with pytest.raises(UnsafeModelError):
        model_files.check_model(path)
    assert "antigravity" not in sys.modules
    assert json.loads(zipfile.ZipFile(path).read("config.json"))["module"] == "antigravity"
