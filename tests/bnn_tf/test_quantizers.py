"""Quantizers: the authors' arrays, hand-computed values, and what every quantizer must do in Larq."""

import numpy as np
import pytest

from bnn_tf import quantizers
from bnn_tf._tensorflow import lq, tf

KERNEL_QUANTIZERS = {
    "scaled_sign": quantizers.ScaledSign,
    "scaled_sign_straight": lambda: quantizers.ScaledSign(clip_value=None),
    "recu": quantizers.ReCU,
    "identity_sign": quantizers.IdentitySign,
    "identity_sign_standardized": lambda: quantizers.IdentitySign(scale="standardized"),
    "sub_bit": lambda: quantizers.SubBit(bits=4, seed=3),
    "sub_bit_9": lambda: quantizers.SubBit(bits=9),
}
INPUT_QUANTIZERS = {
    "approx_sign": quantizers.ApproxSign,
    "approx_sign_recu": lambda: quantizers.ApproxSign(normalize=True),
    "approx_sign_ovsw": lambda: quantizers.ApproxSign(normalize=True, stop_gradient=True),
}
ALL = {**KERNEL_QUANTIZERS, **INPUT_QUANTIZERS}


def convolve(activation, kernel):
    return tf.nn.conv2d(activation, kernel, 1, "SAME")


# The authors' arrays


@pytest.mark.parametrize("tau", [85, 93, 99])
def test_recu_kernel(golden, value_and_gradients, assert_close, tau):
    a = {name: golden("recu_kernel")[f"tau{tau}_{name}"] for name in ("w", "g", "bw", "dw", "tau")}
    value, (gradient,) = value_and_gradients(quantizers.ReCU(float(a["tau"])), a["w"], upstream=a["g"])
    np.testing.assert_array_equal(value, np.sign(a["bw"]))
    assert_close(gradient, a["dw"])


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_recu_conv(golden, assert_close, mode):
    a = golden("recu_conv")
    activation = quantizers.ApproxSign(normalize=True)
    kernel = quantizers.ReCU(float(a["tau"]), scale="learned")
    x, w = tf.constant(a["x"]), tf.constant(a["w"])
    kernel.build(w.shape)
    kernel.learned_scale.assign(a["alpha"].ravel())
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = convolve(activation(x, training=mode == "train"), kernel(w))
        loss = tf.reduce_sum(y * a["g"])
    gradients = tape.gradient(loss, [x, w, kernel.learned_scale])
    for actual, name in zip((y, *gradients[:2]), ("y", "dx", "dw"), strict=True):
        assert_close(actual, a[f"{name}_{mode}"])
    assert_close(gradients[2], a[f"dalpha_{mode}"].ravel())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_ovsw_conv(golden, value_and_gradients, assert_close, mode):
    a = golden("ovsw_conv")
    activation = quantizers.ApproxSign(normalize=True, stop_gradient=True)
    kernel = quantizers.IdentitySign(scale="standardized")
    y, gradients = value_and_gradients(
        lambda x, w: convolve(activation(x, training=mode == "train"), kernel(w)),
        a["x"],
        a["w"],
        upstream=a["g"],
    )
    for actual, name in zip((y, *gradients), ("y", "dx", "dw"), strict=True):
        assert_close(actual, a[f"{name}_{mode}"])


@pytest.mark.parametrize("suffix", ["", "_signx"])
def test_bireal_conv(golden, value_and_gradients, assert_close, suffix):
    a = golden("bireal_conv")
    kernel = quantizers.ScaledSign()
    y, gradients = value_and_gradients(
        lambda x, w: convolve(x, kernel(w)), a[f"x{suffix}"], a["w"], upstream=a["g"]
    )
    for actual, name in zip((y, *gradients), ("y", "dx", "dw"), strict=True):
        assert_close(actual, a[f"{name}{suffix}"])


def test_bireal_activation(golden, value_and_gradients, assert_close):
    a = golden("bireal_conv")
    value, (gradient,) = value_and_gradients(quantizers.ApproxSign(), a["act_x"], upstream=a["act_g"])
    np.testing.assert_array_equal(value, np.where(a["act_x"] == 0, 1, a["act_y"]))  # torch.sign(0) = 0
    assert_close(gradient, a["act_dx"])


@pytest.mark.parametrize("bits", [4, 5, 6])
@pytest.mark.parametrize("learns", [False, True])
def test_snn_conv(golden, assert_close, bits, learns):
    a = golden("snn_conv")
    quantizer = quantizers.SubBit(bits=bits)
    quantizer.codebook.assign(a[f"b{bits}_patterns"])
    quantizer.step.assign(24 if learns else 0)
    x, w = tf.constant(a[f"b{bits}_x"]), tf.constant(a[f"b{bits}_w"])
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = convolve(x, quantizer(w))
        loss = tf.reduce_sum(y * a[f"b{bits}_g"])
    dx, dw, dpatterns = tape.gradient(loss, [x, w, quantizer.codebook])

    prefix = f"b{bits}_s25_" if learns else f"b{bits}_"
    for actual, name in [(y, "y"), (dx, "dx"), (dw, "dw")]:
        assert_close(actual, a[prefix + name])
    if learns:
        assert_close(dpatterns, a[prefix + "dpatterns"])
    else:
        np.testing.assert_array_equal(dpatterns, np.zeros((2**bits, 9)))


# Values by hand


def test_scaled_sign_by_hand(value_and_gradients):
    kernel = np.array([[0.5, -3.0], [-1.5, 0.0]], np.float32)  # columns are output channels
    upstream = np.array([[1.0, 2.0], [4.0, 8.0]], np.float32)
    value, (clipped,) = value_and_gradients(quantizers.ScaledSign(), kernel, upstream=upstream)
    _, (straight,) = value_and_gradients(quantizers.ScaledSign(clip_value=None), kernel, upstream=upstream)
    np.testing.assert_array_equal(value, [[1.0, -1.5], [-1.0, 1.5]])
    np.testing.assert_array_equal(clipped, [[1.0, 0.0], [0.0, 8.0]])
    np.testing.assert_array_equal(straight, upstream)


def test_identity_sign_by_hand(value_and_gradients):
    kernel = np.array([[3.0], [-1.0]], np.float32)  # centred ±2, unbiased variance 8
    scale = 2 / np.sqrt(8 + 1e-5)
    value, (gradient,) = value_and_gradients(quantizers.IdentitySign(), kernel, upstream=np.float32(5))
    np.testing.assert_array_equal([value, gradient], [[[1], [-1]], [[5], [5]]])
    value, (gradient,) = value_and_gradients(
        quantizers.IdentitySign(scale="standardized"), kernel, upstream=np.float32(5)
    )
    np.testing.assert_allclose(value, [[scale], [-scale]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[5 * scale]] * 2, rtol=1e-6)


@pytest.mark.parametrize("make", [quantizers.ReCU, quantizers.IdentitySign])
def test_a_learned_scale_is_one_factor_per_channel_with_the_gradient_of_a_product(make):
    kernel = tf.constant([[0.5, -3.0], [-1.5, 1.0], [0.25, 0.5]])
    signs, quantizer = make()(kernel).numpy(), make(scale="learned")
    quantizer.build(kernel.shape)
    assert 0 <= quantizer.learned_scale.numpy().min() <= quantizer.learned_scale.numpy().max() < 1
    quantizer.learned_scale.assign([0.5, -2.0])
    upstream = np.array([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]], np.float32)
    with tf.GradientTape() as tape:
        value = quantizer(kernel)
        loss = tf.reduce_sum(value * upstream)
    np.testing.assert_array_equal(value, signs * [0.5, -2.0])
    gradient = tape.gradient(loss, quantizer.learned_scale)
    np.testing.assert_allclose(gradient, (signs * upstream).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("make", [quantizers.ReCU, quantizers.IdentitySign])
def test_a_checkpoint_of_one_network_gives_another_its_learned_scale(make, tmp_path):
    """Instances of a quantizer have names of their own, which a checkpoint must not depend on."""

    def network():
        conv = lq.layers.QuantConv2D(4, 3, kernel_quantizer=make(scale="learned"))
        return tf.keras.Sequential([tf.keras.Input((6, 6, 2)), conv]), conv.kernel_quantizer.learned_scale

    (first, saved), (second, read) = network(), network()
    assert not np.array_equal(saved, read)
    path = tf.train.Checkpoint(model=first).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=second).read(path).assert_consumed()
    np.testing.assert_array_equal(saved, read)


def test_the_sign_is_of_the_raw_weights_for_ovsw_and_of_the_centred_ones_for_recu():
    kernel = tf.constant([[1.0], [2.0], [3.0], [4.0]])
    np.testing.assert_array_equal(quantizers.IdentitySign()(kernel)[:, 0], [1, 1, 1, 1])
    np.testing.assert_array_equal(quantizers.ReCU()(kernel)[:, 0], [-1, -1, 1, 1])


def test_recu_revives_and_kills(rng, value_and_gradients):
    """No gradient reaches a clamped weight directly; what it gets comes through mean and deviation."""
    kernel = rng.laplace(size=(3, 3, 8, 4)).astype(np.float32)
    quantizer = quantizers.ReCU(tau=0.85)
    clamp = np.abs(quantizers.math.recu_standardize(tf.constant(kernel)))
    dead = clamp > -clamp.mean() * np.log(0.3)
    upstream = np.where(dead, rng.normal(size=kernel.shape), 0).astype(np.float32)

    _, (gradient,) = value_and_gradients(quantizer, kernel, upstream=upstream)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)

    _, (gradient,) = value_and_gradients(quantizer, kernel, upstream=1 - 2 * upstream)
    assert np.abs(gradient[dead]).max() > 0
    assert 0.22 < dead.mean() < 0.38  # about 2 - 2τ of a Laplace distribution's weights, both tails


def test_tau_of_a_variable_takes_effect(rng, value_and_gradients):
    kernel, upstream = rng.laplace(size=(2, 3, 3, 4, 4)).astype(np.float32)
    quantizer = quantizers.ReCU(tau=0.6)
    quantizer.tau.assign(0.9)
    moved = value_and_gradients(quantizer, kernel, upstream=upstream)[1][0]
    built = value_and_gradients(quantizers.ReCU(tau=0.9), kernel, upstream=upstream)[1][0]
    np.testing.assert_array_equal(moved, built)


def test_normalization_acts_in_training_only(rng, value_and_gradients):
    x, upstream = rng.normal(0, 3, (2, 2, 4, 4, 3)).astype(np.float32)
    plain = value_and_gradients(quantizers.ApproxSign(), x, upstream=upstream)
    for stop_gradient in (False, True):
        quantizer = quantizers.ApproxSign(normalize=True, stop_gradient=stop_gradient)
        evaluated = value_and_gradients(lambda v, q=quantizer: q(v, training=False), x, upstream=upstream)
        trained = value_and_gradients(lambda v, q=quantizer: q(v, training=True), x, upstream=upstream)
        np.testing.assert_array_equal(evaluated[0], plain[0])
        np.testing.assert_array_equal(evaluated[1], plain[1])
        np.testing.assert_array_equal(trained[0], plain[0])
        assert np.abs(trained[1][0] - plain[1][0]).max() > 0.1


def test_sub_bit_with_nine_bits_is_the_plain_binary_kernel(rng, value_and_gradients):
    kernel, upstream = rng.normal(0, 0.8, (2, 3, 3, 4, 5)).astype(np.float32)
    quantizer = quantizers.SubBit(bits=9)
    assert quantizer.codebook is quantizer.memory is None
    assert not quantizer.weights
    value, (gradient,) = value_and_gradients(quantizer, kernel, upstream=upstream)
    scale = np.abs(kernel).mean((0, 1, 2))
    np.testing.assert_allclose(value, scale * np.sign(kernel), rtol=1e-6)
    np.testing.assert_allclose(gradient, scale * upstream * (np.abs(kernel) <= 1), rtol=1e-6)


def test_sub_bit_codebook_is_reproducible_from_its_seed():
    first, same, other = (quantizers.SubBit(bits=5, seed=seed).codebook.numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert first.shape == (32, 9)
    assert len(np.unique(first, axis=0)) == 32
    assert set(np.unique(first)) == {-1, 1}


# What every quantizer must do


@pytest.mark.parametrize("name", KERNEL_QUANTIZERS)
def test_kernels_become_one_magnitude_per_channel(name, rng):
    kernel = rng.normal(0, 0.1, (3, 3, 4, 5)).astype(np.float32)
    kernel[0, 0, 0] = 0.0
    value = KERNEL_QUANTIZERS[name]()(tf.constant(kernel)).numpy()
    scale = np.abs(value).max((0, 1, 2))
    assert (scale > 0).all()
    np.testing.assert_allclose(np.abs(value), np.broadcast_to(scale, value.shape), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"recu", "sub_bit"}))
def test_zero_is_positive(name):
    x = np.zeros((3, 3, 2, 2), np.float32)
    x[1, 1] = -0.5
    expected = np.ones_like(x)
    expected[1, 1] = -1
    np.testing.assert_array_equal(np.sign(ALL[name]()(tf.constant(x))), expected)


@pytest.mark.parametrize("name", ALL)
def test_configuration_round_trip(name):
    quantizer = ALL[name]()
    assert quantizer.precision == 1
    config = tf.keras.utils.serialize_keras_object(quantizer)
    again = tf.keras.utils.deserialize_keras_object(config)
    assert type(again) is type(quantizer)
    assert again.get_config() == quantizer.get_config()
    for old, new in zip(quantizer.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("scaled_sign", quantizers.ScaledSign),
        ("recu", quantizers.ReCU),
        ("identity_sign", quantizers.IdentitySign),
        ("sub_bit", quantizers.SubBit),
    ],
)
def test_string_alias(alias, expected):
    layer = lq.layers.QuantConv2D(2, 3, kernel_quantizer=alias)
    assert type(layer.kernel_quantizer) is expected
    assert type(lq.layers.QuantConv2D.from_config(layer.get_config()).kernel_quantizer) is expected


def test_approx_sign_stands_in_for_larqs():
    assert isinstance(quantizers.ApproxSign(), lq.quantizers.ApproxSign)
    assert type(lq.quantizers.get("approx_sign")) is lq.quantizers.ApproxSign


@pytest.mark.parametrize("name", KERNEL_QUANTIZERS)
def test_works_in_a_larq_layer(name, rng):
    layer = lq.layers.QuantConv2D(
        4,
        3,
        input_quantizer=quantizers.ApproxSign(),
        kernel_quantizer=KERNEL_QUANTIZERS[name](),
        use_bias=False,
    )
    model = tf.keras.Sequential([tf.keras.Input((5, 5, 2)), layer])
    x = rng.normal(size=(2, 5, 5, 2)).astype(np.float32)

    assert layer.kernel.precision == 1
    latent = layer.kernel.latent_variable.numpy()
    with lq.context.quantized_scope(True):
        kernel = model.get_weights()[0]
    np.testing.assert_allclose(kernel, layer.kernel_quantizer(tf.constant(latent)), rtol=1e-6)
    np.testing.assert_allclose(model(x), tf.nn.conv2d(np.sign(x), kernel, 1, "VALID"), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.get_weights()[0], latent)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None for g in gradients)
    assert np.abs(gradients[0]).max() > 0

    lq.models.summary(model, print_fn=(lines := []).append)
    assert "72" in "".join(lines)  # 3·3·2·4 binary weights
    state = {w.name for w in layer.kernel_quantizer.weights}
    assert state <= {w.name for w in model.weights}


@pytest.mark.parametrize("name", INPUT_QUANTIZERS)
def test_training_flag_reaches_activations_inside_a_layer(name, rng):
    """Larq calls the quantizer without `training`; Keras passes it on from the surrounding call."""
    quantizer = INPUT_QUANTIZERS[name]()
    model = tf.keras.Sequential(
        [tf.keras.Input((4, 4, 2)), lq.layers.QuantConv2D(3, 3, input_quantizer=quantizer)]
    )
    x = tf.constant(rng.normal(0, 3, (2, 4, 4, 2)).astype(np.float32))
    gradients = []
    for training in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=training)
        gradients.append(tape.gradient(y, x).numpy())
    assert np.array_equal(*gradients) == (name == "approx_sign")


@pytest.mark.parametrize("name", KERNEL_QUANTIZERS)
def test_state_is_found_in_the_weights_of_the_model(name):
    quantizer = KERNEL_QUANTIZERS[name]()
    layer = lq.layers.QuantConv2D(2, 3, kernel_quantizer=quantizer)
    layer.build((None, 5, 5, 1))
    owned = {id(w) for w in quantizer.weights}
    assert owned <= {id(w) for w in layer.weights}
    expected = {"recu": 1, "sub_bit": 3}.get(name, 0)
    assert len(owned) == expected


def test_names_of_state_differ_between_quantizers():
    names = [w.name for _ in range(2) for w in quantizers.SubBit().weights + quantizers.ReCU().weights]
    assert len(set(names)) == len(names)


# Mixed precision


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", KERNEL_QUANTIZERS)
def test_half_precision_binarizes_as_single_precision(name, policy, rng, value_and_gradients):
    kernel = rng.normal(0, 0.003, (3, 3, 4, 5)).astype(np.float16).astype(np.float32)
    kernel = tf.cast(tf.constant(kernel), tf.bfloat16 if policy == "mixed_bfloat16" else tf.float16)
    single, half = KERNEL_QUANTIZERS[name](), KERNEL_QUANTIZERS[name]()
    half = type(half).from_config({**half.get_config(), "dtype": policy})
    value = half(kernel)
    assert value.dtype == kernel.dtype
    expected = single(tf.cast(kernel, tf.float32))
    np.testing.assert_allclose(tf.cast(value, tf.float32), expected, rtol=2**-8)


@pytest.mark.parametrize("name", KERNEL_QUANTIZERS)
def test_layer_under_a_mixed_precision_policy(name, rng):
    layer = lq.layers.QuantConv2D(
        4,
        3,
        input_quantizer=quantizers.ApproxSign(normalize=True, dtype="mixed_float16"),
        kernel_quantizer=type(KERNEL_QUANTIZERS[name]()).from_config(
            {**KERNEL_QUANTIZERS[name]().get_config(), "dtype": "mixed_float16"}
        ),
        dtype="mixed_float16",
    )
    x = tf.constant(rng.normal(size=(2, 5, 5, 2)).astype(np.float32))
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
    gradient = tape.gradient(loss, layer.kernel)
    assert (y.dtype, gradient.dtype) == (tf.float16, tf.float32)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
    assert all(w.dtype == tf.float32 or w.dtype == tf.int64 for w in layer.weights)
    with lq.context.quantized_scope(True):
        kernel = layer.get_weights()[0]
    np.testing.assert_allclose(
        np.abs(kernel), np.broadcast_to(np.abs(kernel).max((0, 1, 2)), kernel.shape), rtol=1e-3
    )


# Wrong use


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="bits must be a whole number at least 1 and at most 9, not 10"):
        quantizers.SubBit(bits=10)
    with pytest.raises(ValueError, match="standardized"):
        quantizers.IdentitySign(scale="max")
    with pytest.raises(ValueError, match="ScaledSign"):
        quantizers.SubBit()(tf.zeros((1, 1, 4, 4)))
