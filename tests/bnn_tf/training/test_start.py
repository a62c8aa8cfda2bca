"""Weights move by layer, name and shape, and nothing is lost silently."""

import dataclasses
import re

import numpy as np
import pytest

from bnn_tf import codebook, methods
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UserError
from bnn_tf.training import (
    TransferReport,
    prepare,
    require_complete,
    start,
    train,
    train_only_batch_norm,
    transfer,
)
from bnn_tf.training.checkpoints import WeightAverage
from zoo import get_model, recipes
from zoo.recipes import Distribution, Phase

# Own names of the variables that only one side has, by method; the others start from "real".
FRESH = {"bireal": set(), "recu": {"scale", "tau"}, "ovsw": set(), "subbit": {"codebook", "memory", "step"}}


def weights(model):
    return {v.name: v.numpy() for v in model.weights}


@pytest.mark.parametrize("method", FRESH)
def test_from_real_to_any_method(tiny, method):
    source, target = tiny(method="real"), tiny(method=method)
    start = weights(target)
    report = transfer(source, target)
    assert {name.split("/")[-1] for name in report.missing} == FRESH[method]
    assert report.unused == report.mismatched == ()
    require_complete(report, FRESH[method])
    source_weights = weights(source)
    for name, value in weights(target).items():
        np.testing.assert_array_equal(value, source_weights.get(name, start[name]), err_msg=name)


@pytest.mark.parametrize("method", FRESH)
def test_back_to_real_leaves_the_rest_unused(tiny, method):
    report = transfer(tiny(method=method), tiny(method="real"))
    assert {name.split("/")[-1] for name in report.unused} == FRESH[method]
    require_complete(report, FRESH[method])
    if FRESH[method]:
        with pytest.raises(UserError, match="unused in the source: body_conv"):
            require_complete(report)


def test_latent_weights_move_not_their_signs(tiny):
    source, target = tiny(), tiny(method="recu")
    transfer(source, target)
    moved = target.get_layer("body_conv").kernel.numpy()
    np.testing.assert_array_equal(moved, source.get_layer("body_conv").kernel.numpy())
    assert len(np.unique(np.abs(moved))) > 2


def test_another_shape_is_reported_with_both(tiny):
    source, target = tiny(num_classes=10), tiny(num_classes=3)
    before = target.get_layer("logits").kernel.numpy()
    report = transfer(source, target)
    assert report.mismatched == ("logits/bias (10,) -> (3,)", "logits/kernel (8, 10) -> (8, 3)")
    np.testing.assert_array_equal(target.get_layer("logits").kernel.numpy(), before)
    with pytest.raises(UserError, match="2 of another shape: logits/bias"):
        require_complete(report, fresh=("kernel", "bias"))  # being allowed to be fresh is not about shapes


def dense(*names):
    """A model of dense layers with random weights."""
    return tf.keras.Sequential(
        [tf.keras.Input((2,)), *(tf.keras.layers.Dense(2, name=name) for name in names)]
    )


def test_nested_models_are_entered():
    source, target = (tf.keras.Sequential([tf.keras.Input((2,)), dense("a", "b")]) for _ in range(2))
    report = transfer(source, target)
    assert report.matched == ("a/bias", "a/kernel", "b/bias", "b/kernel")
    for loaded, wanted in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, wanted)


def test_names_that_are_not_unique_are_refused():
    inputs = tf.keras.Input((2,))
    model = tf.keras.Model(inputs, dense("d")(dense("d")(inputs)))
    with pytest.raises(UserError, match="two variables are called d/kernel"):
        transfer(model, model)


def test_the_report_reads_well():
    assert str(TransferReport(("a/kernel", "b/kernel"), (), (), ())) == "2 variables took their weights"
    lines = str(TransferReport(("a/kernel",), ("b/tau",), (), ("c/bias (1,) -> (2,)",))).splitlines()
    assert lines[1:] == ["1 without a source: b/tau", "1 of another shape: c/bias (1,) -> (2,)"]


def test_kernels_of_both_networks_must_be_the_same_way_up():
    from bnn_tf.layers import Flip

    require_same_orientation = start.require_same_orientation

    plain = tf.keras.Sequential([tf.keras.Input((4, 4, 1)), tf.keras.layers.Conv2D(2, 3)])
    turned = tf.keras.Sequential([tf.keras.Input((4, 4, 1)), Flip(), tf.keras.layers.Conv2D(2, 3)])
    require_same_orientation(plain, plain)
    require_same_orientation(turned, turned)
    with pytest.raises(
        UserError, match="are turned by 180°.* set the network's option torch_padding to true"
    ):
        require_same_orientation(turned, plain)
    with pytest.raises(UserError, match="are not turned by 180°; leave out the option torch_padding"):
        require_same_orientation(plain, turned)


def test_another_number_of_classes_is_told_in_words(recipe, configuration, session, tmp_path):
    path = tmp_path / "seven.keras"
    get_model("tiny")(method="real", input_shape=(8, 8, 3), num_classes=7, weights=None).save(path)
    remark = prepare(configuration(recipe("real"), init_from=str(path)), session).remark
    assert re.fullmatch(
        rf"The classifier starts from new weights, for 10 classes; the other \d+ arrays come from {path}",
        remark,
    )


def test_init_from_takes_the_weights_and_reports(recipe, new_run, configuration, session, quick_fit):
    source = new_run(recipe("real", epochs=1), "source")
    trained = train(source, session).network
    prepared = prepare(configuration(recipe("recu"), init_from=str(source.path)), session)
    network = prepared.network
    np.testing.assert_array_equal(
        network.get_layer("body_conv").kernel.numpy(), trained.get_layer("body_conv").kernel.numpy()
    )
    assert f"Starting from {source.path}" in prepared.remark
    assert "2 without a source: body_conv/scale, body_conv/tau" in prepared.remark


def test_a_source_must_exist_and_fit(recipe, new_run, configuration, session, quick_fit, tmp_path):
    def prepared(chosen, start_from):
        return prepare(configuration(chosen, init_from=str(start_from)), session)

    with pytest.raises(UserError, match="there is no run and no model at nowhere"):
        prepared(recipe(), "nowhere")
    run = new_run(recipe())
    with pytest.raises(UserError, match="not one epoch is complete"):
        prepared(recipe(), run.path)
    train(run, session)
    other = recipes.override(dataclasses.replace(recipe(), model="vgg_small"), "size", 32)
    with pytest.raises(UserError, match="no kernel of .* fits this network"):
        prepared(other, run.path)


def test_a_saved_model_is_a_source(recipe, configuration, session, tiny, tmp_path):
    model = tiny()
    model.save(tmp_path / "model.keras")
    network = prepare(configuration(recipe(), init_from=str(tmp_path / "model.keras")), session).network
    for value, expected in zip(network.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_phases_must_fit_together(tiny, recipe, configuration):
    """Kernels carry over; what only binary layers have must be allowed to be fresh."""
    phases = (Phase("real", method=methods.Real()), Phase("second"))
    config = configuration(recipe("recu", phases=phases))
    with pytest.raises(
        UserError,
        match="not carry over completely:\\n.*\\n2 without a source: body_conv/scale, body_conv/tau",
    ):
        start.initialize(tiny(method="recu"), config, 1, tiny(method="real"))


class TestTeacher:
    def test_is_needed(self, recipe, configuration, session):
        with pytest.raises(UserError, match="needs a teacher"):
            prepare(configuration(recipe(loss=Distribution())), session)

    def test_must_exist_and_fit(self, recipe, configuration, new_run, session, quick_fit, tiny, tmp_path):
        def teacher(path, normalization="unit", size=8):
            chosen = dataclasses.replace(recipe(loss=Distribution()), teacher=str(path))
            chosen = recipes.override(recipes.override(chosen, "normalization", normalization), "size", size)
            return start.load_teacher(configuration(chosen))

        with pytest.raises(UserError, match="there is no run and no model at nowhere"):
            teacher("nowhere")
        run = new_run(recipe())
        with pytest.raises(UserError, match="not one epoch is complete"):
            teacher(run.path)
        train(run, session)
        with pytest.raises(UserError, match="choose the same normalization"):
            teacher(run.path, normalization="cifar")
        with pytest.raises(UserError, match="takes images of 8×8, this recipe has 16×16"):
            teacher(run.path, size=16)
        tiny(num_classes=4).save(tmp_path / "four.keras")
        with pytest.raises(UserError, match="knows 4 classes, digits has 10"):
            teacher(tmp_path / "four.keras")
        tiny(input_shape=(None, None, 3)).save(tmp_path / "any.keras")
        assert teacher(tmp_path / "any.keras", size=16).name == "tiny"

    @pytest.mark.parametrize("normalization", ["imagenet", "cifar", "unit"])
    def test_weights_of_the_package_take_the_recipe_s_images(self, normalization, recipe, configuration, rng):
        name = "zoo:cifar_resnet20-ovsw"
        chosen = recipes.override(recipe(loss=Distribution()), "normalization", normalization)
        chosen = dataclasses.replace(recipes.override(chosen, "size", 32), teacher=name)
        teacher = start.load_teacher(configuration(chosen))
        pixels = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        own = recipes.find("ovsw", "cifar_resnet20", "cifar10", "fast").images
        expected = start.load_zoo(name)(own.normalize(pixels))
        # Rounding turns single signs, which logits show. Pixels in [0, 1] as they are give 0.71.
        logits = teacher(chosen.images.normalize(pixels))
        assert np.corrcoef(np.ravel(logits), np.ravel(expected))[0, 1] > 0.97


def test_a_codebook_starts_with_the_frequent_patterns_of_the_weights_taken(tiny, recipe, configuration):
    method = methods.SubBit(bits=3, codebook="frequent")
    phases = (Phase("weights", fresh_variables=("codebook", "memory", "step")),)
    config = configuration(recipe(method, phases=phases))
    previous, network = tiny(method="real"), tiny(method=method)
    kernel = previous.get_layer("body_conv").kernel
    rows = [codebook.all_patterns()[number] for number in (3, 3, 3, 500, 500, 77)]
    slices = np.resize(rows, (np.prod(kernel.shape[2:]), 9))
    kernel.assign(slices.T.reshape(kernel.shape) * 0.1)
    start.initialize(network, config, 0, previous)
    quantizer = network.get_layer("body_conv").kernel_quantizer
    numbers = codebook.pattern_numbers(quantizer.codebook).numpy()
    assert list(numbers[:3]) == [3, 500, 77]
    np.testing.assert_array_equal(quantizer.memory, quantizer.codebook)
    quantizer.codebook.assign(codebook.all_patterns()[100:108])
    other = tiny(method=method)
    start.initialize(other, config, 0, network)  # a codebook that the other network has is taken over
    taken = other.get_layer("body_conv").kernel_quantizer.codebook
    np.testing.assert_array_equal(taken, quantizer.codebook)


def test_train_only_batch_norm(tiny):
    network = tiny(method="recu")
    train_only_batch_norm(network)
    assert {v.name.split("/")[-1] for v in network.trainable_variables} == {"gamma:0", "beta:0"}


def test_binarize_kernels_leaves_real_ones(tiny):
    network = tiny()
    stem = network.get_layer("stem_conv").kernel.numpy()
    latent = network.get_layer("body_conv").kernel.numpy()
    start.binarize_kernels(network)
    np.testing.assert_array_equal(network.get_layer("stem_conv").kernel.numpy(), stem)
    np.testing.assert_array_equal(network.get_layer("body_conv").kernel.numpy(), np.where(latent >= 0, 1, -1))


def test_binarize_kernels_leaves_ternary_ones():
    convolution = lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_tern", input_shape=(8, 8, 2))
    network = tf.keras.Sequential([convolution])
    before = network.get_weights()[0]
    start.binarize_kernels(network)
    np.testing.assert_array_equal(network.get_weights()[0], before)


def test_an_average_follows_the_weights_and_swaps(tiny):
    network = tiny(method="recu")
    first = network.get_weights()
    average = WeightAverage(network, 0.9)
    network.set_weights([weights + 1 for weights in first])
    average.update(tf.constant(2))
    with average.swapped():
        means = {v.name: v.numpy() for v in network.weights}
    stem = network.get_layer("stem_conv").kernel
    np.testing.assert_allclose(means[stem.name], stem.numpy() - 0.81, rtol=0, atol=1e-6)
    for value, expected in zip(network.get_weights(), first, strict=True):
        np.testing.assert_array_equal(value, expected + 1)
