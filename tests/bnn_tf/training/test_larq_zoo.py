"""Larq Zoo's networks by name, and their weights in ours. All weights here are random."""

import dataclasses

import numpy as np
import pytest

import zoo
from bnn_tf import data
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import RunConfig, sources, start
from zoo import recipes


def shake(network, rng):
    """Gives every weight and statistic a value of its own; a start of ones and zeros would hide mistakes."""
    for variable in network.weights:
        name = variable.name.split("/")[-1]
        low, high = (0.5, 2) if name.startswith(("gamma", "moving_variance")) else (-0.5, 0.5)
        if not name.startswith("kernel"):
            variable.assign(rng.uniform(low, high, variable.shape))


@pytest.fixture(scope="module")
def bireal():
    """Larq Zoo's BiRealNet for images of 64×64, to logits."""
    tf.random.set_seed(1)
    network = start.load_larq_zoo("larq-zoo:BiRealNet:random:64")
    shake(network, np.random.default_rng(1))
    return network


def test_all_of_larq_zoo_is_known():
    import larq_zoo as original

    assert set(sources.LARQ_ZOO_NAMES) == {*original.literature.__all__, *original.sota.__all__}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("larq-zoo:QuickNet", ("QuickNet", False, (224, 224))),
        ("larq-zoo:QuickNet:random", ("QuickNet", True, (224, 224))),
        ("larq-zoo:BiRealNet:192", ("BiRealNet", False, (192, 192))),
        ("larq-zoo:BiRealNet:random:128x96", ("BiRealNet", True, (128, 96))),
    ],
)
def test_names(text, expected):
    assert sources.kind_of(text) == "larq-zoo"
    assert sources.parse_larq_zoo(text) == expected


@pytest.mark.parametrize("text", ["runs/larq-zoo:QuickNet", "QuickNet", "keras:ResNet50", "model.keras"])
def test_what_is_no_name(text):
    assert sources.kind_of(text) != "larq-zoo"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("larq-zoo:QuickNt", "did you mean 'QuickNet'.*BiRealNet.*XNORNet"),
        ("larq-zoo:", "BiRealNet"),
        ("larq-zoo:QuickNet:randm", "come :random and a size .* not 'randm'"),
        ("larq-zoo:QuickNet:0", "not '0'"),
    ],
)
def test_wrong_names(text, message):
    with pytest.raises(UsageError, match=message):
        start.load_larq_zoo(text)


def test_a_size_that_the_network_does_not_take():
    with pytest.raises(UserError, match="XNORNet for images of 32×32 cannot be built: "):
        start.load_larq_zoo("larq-zoo:XNORNet:random:32")


def test_without_a_network_it_says_how_to_go_on(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        print("Downloading data from …")
        raise Exception("URL fetch failure on …: None -- Name or service not known")  # as Keras does

    monkeypatch.setattr(tf.keras.utils, "get_file", unreachable)
    with pytest.raises(UserError, match="service not known.*larq-zoo:BiRealNet:random has random ones$"):
        start.load_larq_zoo("larq-zoo:BiRealNet")


@pytest.mark.slow
def test_downloaded_weights_are_those_of_larq_zoo(monkeypatch, bireal, tmp_path):
    """The download is faked by a file that a Larq Zoo network wrote."""
    from larq_zoo import literature

    original = literature.BiRealNet(weights=None, input_shape=(224, 224, 3))
    shake(original, np.random.default_rng(2))
    original.save_weights(tmp_path / "weights.h5")
    monkeypatch.setattr(tf.keras.utils, "get_file", lambda **_: str(tmp_path / "weights.h5"))
    network = start.load_larq_zoo("larq-zoo:BiRealNet")
    image = np.random.default_rng(3).standard_normal((1, 224, 224, 3)).astype(np.float32)
    probabilities = np.asarray(original(image, training=False))
    np.testing.assert_allclose(tf.nn.softmax(network(image, training=False)), probabilities, atol=1e-6)
    assert (
        abs(np.asarray(network(image, training=False)).sum(axis=1) - 1).min() > 0.1
    )  # logits, no probabilities
    smaller = start.load_larq_zoo("larq-zoo:BiRealNet:64x32")
    assert smaller.input_shape == (None, 64, 32, 3)
    for actual, expected in zip(smaller.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


class TestOurBiRealNet:
    """BiRealNet18 with Larq Zoo's weights."""

    def test_gives_larq_zoos_logits(self, bireal, rng):
        network = zoo.BiRealNet18(input_shape=(64, 64, 3))
        shake(network, rng)
        report = start.transfer_in_order(bireal, network)
        assert (report.missing, report.unused, report.mismatched) == ((), (), ())
        assert len(report.matched) == len(bireal.weights) == len(network.weights)
        first = next(layer for layer in bireal.layers if isinstance(layer, lq.layers.QuantConv2D))
        kernel = network.get_layer("stage1_block1_conv").kernel
        np.testing.assert_array_equal(getattr(kernel, "latent_variable", kernel), first.weights[0])
        images = rng.standard_normal((4, 64, 64, 3)).astype(np.float32)
        original = np.asarray(bireal(images, training=False))
        assert original.std() > 0.1
        np.testing.assert_allclose(
            np.asarray(network(images, training=False)), original, rtol=0, atol=1e-4 * np.abs(original).max()
        )

    def test_another_method_and_other_classes_start_from_them(self, bireal, monkeypatch):
        monkeypatch.setattr(start, "load_larq_zoo", {"larq-zoo:BiRealNet": bireal}.get)
        network = zoo.BiRealNet18(input_shape=(64, 64, 3), method="recu", num_classes=10)
        before = network.get_layer("logits").kernel.numpy()
        config = RunConfig(recipes.find("recu", "bireal_net18"), init_from="larq-zoo:BiRealNet")
        report = start.initialize(network, config, 0, None)
        norms = [layer for layer in network.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
        assert all(f"{norm.name}/gamma" in report.matched for norm in norms)
        assert report.mismatched == ("logits/kernel (512, 1000) -> (512, 10)",)
        assert {"logits/bias", "logits/kernel"} <= set(report.missing)
        assert len(report.unused) == 2
        np.testing.assert_array_equal(network.get_layer("logits").kernel, before)

    def test_other_networks_are_refused(self, bireal, tiny):
        with pytest.raises(UserError, match="one has 16 of the kind binary convolution, the other 1$"):
            start.transfer_in_order(bireal, tiny())

    def test_other_shapes_are_refused(self):
        def network(filters):
            image = tf.keras.Input((8, 8, 3))
            return tf.keras.Model(image, tf.keras.layers.Conv2D(filters, 3, name="only")(image))

        with pytest.raises(UserError, match=r"kernel of only is \(3, 3, 3, 4\), that of only \(3, 3, 3, 5\)"):
            start.transfer_in_order(network(5), network(4))


class TestTeacher:
    @pytest.fixture
    def config(self):
        recipe = recipes.override(recipes.find("recu", "resnet18", "imagenet2012"), "size", [64, 64])
        recipe = dataclasses.replace(recipe, teacher="larq-zoo:BiRealNet:random:64")
        return RunConfig(recipe, class_names=tuple(map(str, range(1000))))

    @pytest.mark.parametrize("normalization", ["imagenet", "unit"])
    def test_it_sees_its_own_normalization(self, config, bireal, monkeypatch, rng, normalization):
        monkeypatch.setattr(start, "load_larq_zoo", lambda _: bireal)
        recipe = recipes.override(config.recipe, "normalization", normalization)
        teacher = start.load_teacher(dataclasses.replace(config, recipe=recipe))
        pixels = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
        own, own_images = (data.Images(normalization=name) for name in ("imagenet", normalization))
        expected = np.asarray(bireal(own.normalize(pixels), training=False))
        actual = np.asarray(teacher(own_images.normalize(pixels), training=False))
        assert np.median(np.abs(actual - expected)) < 1e-3 * expected.std()  # rounding may flip signs

    def test_the_classes_must_agree(self, config, bireal, monkeypatch):
        monkeypatch.setattr(start, "load_larq_zoo", lambda _: bireal)
        with pytest.raises(UserError, match="larq-zoo:BiRealNet:random:64 knows 1000 classes"):
            start.load_teacher(dataclasses.replace(config, class_names=("a", "b")))


def test_preprocessing_cuts_out_what_larq_zoos_does(rng):
    """The same part of a picture, by another filter: alike on average, not to the pixel."""
    from larq_zoo import preprocess_input

    coarse = rng.uniform(0, 255, (1, 8, 10, 3)).astype(np.float32)
    picture = tf.saturate_cast(tf.image.resize(coarse, (300, 400), method="bicubic")[0], tf.uint8).numpy()
    pre = start.larq_zoo_images((224, 224))
    network = pre.normalize(pre.views(tf.constant(picture[None]))[0].numpy())
    original = preprocess_input(picture.astype(np.float32))
    assert network.shape == original.shape
    assert np.abs(network - original).mean() < 0.03
    assert np.corrcoef(network.ravel(), original.ravel())[0, 1] > 0.999
