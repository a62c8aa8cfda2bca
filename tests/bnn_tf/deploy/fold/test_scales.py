import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.fold import Affine, fold
from bnn_tf.layers import LearnableBias, OutputScale

layers = tf.keras.layers
kinds = (layers.BatchNormalization, OutputScale, LearnableBias)


def outputs(model, inputs):
    return tf.nest.map_structure(np.asarray, model(inputs, training=False))


def affine_layers(model):
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def unit_kernels(model):
    kernels = [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "input_quantizer")]
    return all(set(np.unique(kernel)) == {-1, 1} for kernel in kernels)


def assert_same(model, folded, images):
    expected = outputs(model, images)
    result = outputs(folded, images)
    # one flipped sign may move an image; the typical one agrees to rounding
    difference = np.abs(result - expected).max(axis=1) / expected.std()
    assert np.median(difference) < 1e-5


def scale_layer(seed, **kwargs):
    return OutputScale(initializer=tf.keras.initializers.RandomUniform(-1, 1, seed=seed), **kwargs)


CHAINS = {
    "bn": (lambda: [layers.BatchNormalization()], 1),
    "scale": (lambda: [scale_layer(1)], 1),
    "bias": (lambda: [LearnableBias()], 1),
    "scale, bn": (lambda: [scale_layer(1), layers.BatchNormalization()], 1),
    "scale, bias, bn, bias": (
        lambda: [scale_layer(1), LearnableBias(), layers.BatchNormalization(), LearnableBias()],
        1,
    ),
    "bn without scale": (lambda: [layers.BatchNormalization(scale=False, center=False)], 1),
    "relu, bn": (lambda: [layers.ReLU(), layers.BatchNormalization()], 0),
    "scale, pool, bn": (lambda: [scale_layer(1), layers.MaxPooling2D(), layers.BatchNormalization()], 1),
    "scale, pool, scale": (lambda: [scale_layer(1), layers.MaxPooling2D(), scale_layer(2)], 1),
    "prelu, pool, bn": (
        lambda: [layers.PReLU(shared_axes=[1, 2]), layers.AveragePooling2D(), layers.BatchNormalization()],
        0,
    ),
    "clipped relu, bn": (lambda: [layers.ReLU(max_value=6.0), layers.BatchNormalization()], 1),
    "softsign, bn": (lambda: [layers.Activation("softsign"), layers.BatchNormalization()], 1),
    "nothing": (lambda: [], 1),
}


CASES = [(name, {}) for name in CHAINS]
CASES += [(name, {"use_bias": True}) for name in ("bn", "scale, pool, bn", "nothing")]
CASES += [(name, {"activation": "relu"}) for name in ("bn", "scale, pool, bn", "nothing")]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_chains_become_one_map(network, conv, images, name, settings):
    chain, count = CHAINS[name]
    model = network(tf.keras.Sequential([conv("conv", **settings), *chain()]))
    folded = fold(model)
    assert unit_kernels(folded)
    assert_same(model, folded, images)
    if not settings:
        assert len(affine_layers(folded)) == count


def test_dead_filters_are_exact(network, conv, images):
    model = network(tf.keras.Sequential([conv("conv"), layers.MaxPooling2D(), layers.BatchNormalization()]))
    layer = [layer for layer in model.submodules if layer.name == "conv"][0]
    layer.kernel.assign(layer.kernel.latent_variable * np.float32([0, 1e-9] + 30 * [1]))
    folded = fold(model)
    assert unit_kernels(folded)
    assert_same(model, folded, images)


def test_nothing_to_fold_is_left_alone(network, conv, images):
    model = network(
        tf.keras.Sequential([conv("conv", kernel_quantizer="ste_sign"), layers.BatchNormalization()])
    )
    folded = fold(model)
    (norm,) = affine_layers(folded)
    assert norm.epsilon == 1e-3
    assert_same(model, folded, images)


def test_a_branch_stops_the_fold(network, conv, images):
    def trunk(x):
        x = conv("conv")(x)
        return layers.add([layers.BatchNormalization()(x), x])

    model = network(trunk)
    folded = fold(model)
    assert unit_kernels(folded)
    assert len(affine_layers(folded)) == 2
    assert_same(model, folded, images)


def test_shared_layers_are_left_alone(network, conv, images):
    def trunk(x):
        shared, norm = conv("conv"), layers.BatchNormalization()
        return layers.add([norm(conv("other")(norm(shared(x)))), shared(x)])

    model = network(trunk)
    assert_same(model, fold(model), images)


def test_residual_networks(network, residual, images):
    model = network(residual)
    folded = fold(model)
    assert unit_kernels(folded)
    assert len(affine_layers(folded)) == 2
    assert_same(model, folded, images)


def test_real_kernels_are_left_alone(network, conv, images):
    model = network(tf.keras.Sequential([conv("conv", kernel_quantizer=None), layers.BatchNormalization()]))
    assert_same(model, fold(model), images)


def test_affine_maps_compose(rng):
    first, second = (Affine(rng.normal(size=3), rng.normal(size=3)) for _ in range(2))
    x = rng.normal(size=(5, 3))
    expected = second.scale * (first.scale * x + first.bias) + second.bias
    joined = second.after(first)
    np.testing.assert_allclose(joined.scale * x + joined.bias, expected)
