"""Each kind of layer, alone and fused, on sizes that leave remainders everywhere."""

import dataclasses

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.graph import ConversionError
from bnn_tf.deploy.lce_file import to_flatbuffer
from bnn_tf.export import check, file_lowering
from bnn_tf.export.lowering import lower
from bnn_tf.layers import ChannelPad, Flip, HardTanh, LeakyClip, LearnableBias

L = tf.keras.layers
needs_compiler = pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
CC = ["cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]


def network(*layers, shape=(9, 7, 5)):
    image = value = tf.keras.Input(shape)
    for layer in layers:
        value = layer(value)
    return tf.keras.Model(image, value)


def binary(filters, size=3, **options):
    options = {"padding": "same", "use_bias": False, **options}
    return lq.layers.QuantConv2D(
        filters, size, input_quantizer="ste_sign", kernel_quantizer="ste_sign", **options
    )


BINARY = {
    "plain": [binary(32)],
    "few filters": [binary(10)],
    "48 filters": [binary(48)],
    "100 filters": [binary(100)],
    "170 filters": [binary(170)],
    "one-padding": [binary(20, pad_values=1.0)],
    "one-padding, stride": [binary(33, strides=2, pad_values=1.0)],
    "valid": [binary(16, padding="valid")],
    "stride": [binary(16, strides=2)],
    "uneven stride": [binary(16, (3, 2), strides=(2, 3))],
    "dilation": [binary(16, dilation_rate=2)],
    "dilation, one-padding": [binary(16, dilation_rate=(1, 3), pad_values=1.0)],
    "1x1": [binary(24, 1)],
    "5x5": [binary(24, 5)],
    "kernel larger than map": [L.MaxPooling2D(4), binary(17, 7)],
    "bias": [binary(16, use_bias=True)],
    "relu inside": [binary(16, activation="relu")],
    "norm and sign behind": [binary(40), L.BatchNormalization(), binary(24, pad_values=1.0)],
    "two paddings of one map": [binary(40), L.BatchNormalization(), HardTanh(), binary(24)],
    "pooled signs": [binary(40), L.BatchNormalization(), L.MaxPooling2D(2), binary(24)],
    "pooled signs, same": [binary(40), L.BatchNormalization(), L.MaxPooling2D(3, 2, "same"),
                           binary(24, pad_values=1.0)],
    "binary dense": [binary(8), L.BatchNormalization(), L.Flatten(),
                     lq.layers.QuantDense(30, input_quantizer="ste_sign", kernel_quantizer="ste_sign")],
    "sign as a layer": [L.Activation(lq.quantizers.SteSign()), L.Conv2D(6, 3)],
    "real kernel on signs": [lq.layers.QuantConv2D(6, 3, input_quantizer="ste_sign")],
    "many channels": [L.Conv2D(300, 1), binary(35, 3)],
}  # fmt: skip

REAL = {
    "conv of large filters": [L.Conv2D(50, 5, padding="same")],  # several strips take turns
    "convolution": [L.Conv2D(37, 3)],
    "convolution, same, stride": [L.Conv2D(20, 5, 2, "same", activation="relu")],
    "convolution, dilation": [L.Conv2D(6, 3, dilation_rate=2, padding="same")],
    "convolution, groups": [L.Conv2D(12, 1), L.Conv2D(18, 3, groups=3, padding="same")],
    "one-padded real kernel": [lq.layers.QuantConv2D(6, 3, padding="same", pad_values=1.0, strides=2)],
    "depthwise": [L.DepthwiseConv2D(3, padding="same", strides=2)],
    "depthwise, multiplier": [L.DepthwiseConv2D(3, depth_multiplier=3, activation="relu")],
    "separable": [L.SeparableConv2D(11, 3, padding="same")],
    "dense": [L.Flatten(), L.Dense(19, activation="tanh"), L.Dense(4)],
    "dense on a map": [L.Dense(6)],
    "max pool": [L.MaxPooling2D(3, 2, "same")],
    "average pool": [L.AveragePooling2D(3, 2, "same")],
    "global pools": [L.GlobalAveragePooling2D()],
    "global max": [L.GlobalMaxPooling2D(keepdims=True)],
    "zero padding": [L.ZeroPadding2D(((1, 2), (0, 3)))],
    "cropping": [L.Cropping2D(((1, 2), (0, 3)))],
    "channel padding": [ChannelPad(2, 3)],
    "flip": [Flip()],
    "nearest": [L.UpSampling2D((2, 3))],
    "bilinear": [L.UpSampling2D((2, 3), interpolation="bilinear")],
    "prelu": [L.PReLU(shared_axes=[1, 2], alpha_initializer="uniform")],
    "prelu, each value": [L.PReLU(alpha_initializer="uniform")],
    "relus": [L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), L.LeakyReLU(0.2), L.ELU(0.7)],
    "clips": [HardTanh(), LeakyClip(0.2), LearnableBias()],
    "clip_by_value": [lambda x: tf.clip_by_value(x, -0.5, 1.0)],
    "softmax": [L.Softmax()],
    "activations": [L.Activation(a) for a in ("relu6", "swish", "gelu", "selu", "softplus")],
    "more activations": [L.Activation(a) for a in ("softsign", "sigmoid", "hard_sigmoid", "elu")],
    "normalization": [L.Normalization(mean=[0.1] * 5, variance=[2.0] * 5), L.Rescaling(2.0, -0.5)],
    "reshape": [L.Reshape((3, 3, 35)), L.Dropout(0.5), L.Reshape((315,))],
    "nothing": [L.Dropout(0.5)],
}  # fmt: skip

FUSED = {
    "thresholds": [binary(40), L.BatchNormalization(), binary(24, pad_values=1.0), L.BatchNormalization(),
                   binary(33, pad_values=1.0)],
    "thresholds, valid, stride": [binary(40, padding="valid"), L.BatchNormalization(),
                                  binary(24, strides=2, pad_values=1.0)],
    "thresholds behind pooled signs": [binary(40), L.BatchNormalization(), L.MaxPooling2D(2),
                                       binary(24, pad_values=1.0), L.BatchNormalization(), binary(8)],
    "fused relu": [binary(16, pad_values=1.0), L.ReLU(), L.BatchNormalization()],
    "fused clip": [binary(16, pad_values=1.0), HardTanh(), L.BatchNormalization()],
    "constant filters": [binary(32, kernel_initializer="ones", pad_values=1.0)],
    "strided slice": [L.MaxPooling2D(1, 2), L.Conv2D(3, 1)],
    "relu6 and others": [L.Activation(a) for a in ("relu6", "swish", "sigmoid", "elu", "hard_sigmoid")],
    "leaky": [L.LeakyReLU(0.2), L.Rescaling(2.0, -0.5)],
}  # fmt: skip
"""What LCE's converter fuses, or writes with other operators."""


CASES = {**FUSED, **BINARY, **REAL}


@pytest.mark.parametrize("case", CASES)
def test_layer(case, settled, agrees):
    agrees(settled(network(*CASES[case])), command=CC)


KERNELS = [
    case for case in CASES if case.startswith(("conv", "one-padded", "depth", "sep", "dense", "bias", "real"))
]


@needs_compiler
@pytest.mark.sample(5)
@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize(
    "flags",
    [["-O2", "-march=native"], pytest.param(["-O1"], marks=pytest.mark.slow)],
    ids=["native", "portable"],
)
def test_layer_with_int8_weights(case, flags, settled, agrees):
    _, text, _ = agrees(settled(network(*CASES[case])), command=[*CC, *flags], int8_weights=True)
    assert ("const int8_t" in text) == (case != "bias")


# `convert` refuses the first one, which LCE computes wrongly. The others are written with operators
# that programs do not have.
NOT_CONVERTED = ("kernel larger than map", "relus", "activations", "more activations")


@needs_compiler
@pytest.mark.sample(len(FUSED))
@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_CONVERTED])
def test_layer_of_a_converted_file(case, settled, tmp_path):
    """Against LCE's interpreter."""
    content = to_flatbuffer(settled(network(*CASES[case])))
    report = bnn_tf.export_c(content, tmp_path / "net.c")
    assert report.proof.difference is None
    assert report.proof.tensors


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", BINARY)
@pytest.mark.parametrize(
    "flags",
    [["-O3", "-march=native"], pytest.param(["-O1", "-DNET_WORD_BITS=32"], marks=pytest.mark.slow)],
    ids=["native", "32-bit words"],
)
def test_binary_layer_in_other_branches(case, flags, settled, agrees):
    agrees(settled(network(*BINARY[case])), command=[*CC, *flags])


def merged(function, shape=(6, 5, 12)):
    image = tf.keras.Input(shape)
    a, b = L.Conv2D(12, 3, padding="same")(image), L.Conv2D(12, 1)(image)
    outputs = function(image, a, b)
    return tf.keras.Model(image, outputs)


MERGES = {
    "add": lambda x, a, b: L.Add()([a, b, x]),
    "subtract": lambda x, a, b: L.Subtract()([a, b]),
    "subtract, swapped": lambda x, a, b: L.Subtract()([b, a]),
    "multiply by a pixel": lambda x, a, b: L.Multiply()([L.GlobalAveragePooling2D(keepdims=True)(a), b]),
    "maximum": lambda x, a, b: L.Maximum()([a, b]),
    "minimum": lambda x, a, b: L.Minimum()([a, b]),
    "average": lambda x, a, b: L.Average()([a, b, x]),
    "concatenate": lambda x, a, b: L.Concatenate()([a, x, b]),
    "concatenate rows": lambda x, a, b: L.Concatenate(axis=1)([a, x, b]),
    "concatenate columns": lambda x, a, b: L.Concatenate(axis=2)([a, x, b]),
    "operators": lambda x, a, b: tf.nn.relu(a * b - x) + 2.0 * b,
    "constant minus": lambda x, a, b: 1.0 - a,
    "same twice": lambda x, a, b: L.Add()([a, a]),
    "several outputs": lambda x, a, b: [L.Add()([a, b]), a, L.Flatten()(b)],
    "image as output": lambda x, a, b: [a, x],
    "output twice": lambda x, a, b: [a, a],
    "output read again": lambda x, a, b: [a, binary(9)(a)],
    "binary branches": lambda x, a, b: L.Add()([binary(12)(a), binary(12, pad_values=1.0)(a), a]),
    "residual chain": lambda x, a, b: L.Add()([L.BatchNormalization()(binary(12)(L.Add()([a, b]))), b]),
    "signs joined": lambda x, a, b: binary(7)(L.Concatenate()([a, b])),
    "squeeze": lambda x, a, b: L.Multiply()(
        [a, L.Reshape((1, 1, 12))(L.Dense(12, activation="sigmoid")(L.GlobalAveragePooling2D()(b)))]
    ),
}


@pytest.mark.sample(5)
@pytest.mark.parametrize("case", MERGES)
def test_branches(case, settled, agrees):
    agrees(settled(merged(MERGES[case])), command=CC)


def test_vector_input(agrees):
    agrees(network(L.Dense(7, activation="relu"), L.Dense(3), shape=(11,)), command=CC)


def test_shared_layer(agrees):
    image = tf.keras.Input((5, 5, 4))
    shared = L.Conv2D(4, 3, padding="same")
    agrees(tf.keras.Model(image, shared(shared(image))), command=CC)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (L.Conv2DTranspose(4, 3, name="up"), "'up' .*Conv2DTranspose"),
        (L.LayerNormalization(name="norm"), "'norm' .*LayerNormalization"),
        (L.UpSampling2D(interpolation="bicubic", name="up"), "'up' .*bicubic"),
        (L.Lambda(lambda x: x * 3, name="mine"), "'mine' .*Lambda"),
        (L.Permute((2, 1, 3), name="turn"), "'turn' .*Permute"),
        (L.Activation(lambda x: x**3, name="cube"), "'cube'"),
    ],
)
def test_refuses_by_name(layer, name):
    with pytest.raises(ConversionError, match=name):
        lower(network(layer))


def test_names_all_that_it_refuses():
    with pytest.raises(ConversionError, match="'one'.*'two'"):
        lower(network(L.Permute((2, 1, 3), name="one"), L.LayerNormalization(name="two")))


def test_refuses_several_images():
    first, second = tf.keras.Input((4, 4, 1)), tf.keras.Input((4, 4, 1))
    with pytest.raises(ConversionError, match="2 inputs"):
        lower(tf.keras.Model([first, second], L.Add()([first, second])))


def test_residual_is_written_in_place(exported):
    """A trunk of sums keeps one float map: each sum is written over the one before."""
    image = tf.keras.Input((8, 8, 16))
    value = L.Conv2D(16, 3, padding="same")(image)
    for _ in range(4):
        value = L.Add()([L.BatchNormalization()(binary(16)(value)), value])
    program, _, _ = exported(tf.keras.Model(image, L.GlobalAveragePooling2D()(value)))
    maps = {offset for tensor, offset in program.offsets.items() if not program.network.shapes[tensor].signs
            and program.network.shapes[tensor].pixels == 64}  # fmt: skip
    assert len(maps) == 1


@pytest.mark.slow
def test_memory_of_living_tensors_does_not_overlap(exported, settled):
    import zoo

    model = settled(zoo.CifarResNet20(method="recu", input_shape=(32, 32, 3), num_classes=10))
    program, _, _ = exported(model)
    assert program.arena < 2 * 32 * 32 * 16 * 4
    assert all(offset % 64 == 0 for offset in program.offsets.values())


@pytest.mark.sample(1)
@pytest.mark.parametrize("shape", [(1, 2, 40), (3, 1, 40)])
def test_maps_of_less_than_a_strip(shape, settled, agrees):
    """Kernels work on four pixels even where a map has two or three: their results need room."""
    layers = [binary(40), L.BatchNormalization(), binary(147, pad_values=1.0), L.Conv2D(9, 1)]
    agrees(settled(network(*layers, shape=shape)), command=CC)


def test_counts_are_exact(agrees):
    """A window of 512 channels and 3 × 3 taps of equal signs: the largest counts that the zoo has."""
    model = network(binary(64), shape=(4, 4, 512))
    model.layers[-1].kernel.assign(np.ones((3, 3, 512, 64), np.float32))
    program, text, proof = agrees(model, command=[*CC, "-O3", "-march=native"])
    assert proof.difference is None


@needs_compiler
def test_a_wrong_threshold_is_found(settled, tmp_path, monkeypatch):
    """A threshold decides whole numbers: one beside the right one is an error, however few signs it moves."""
    content = to_flatbuffer(settled(network(*FUSED["thresholds"])))
    lower = file_lowering._FileLowering.map

    def shifted(self, operator, tensor, expression, *parameters):
        if expression == "t - {0}":
            parameters = (parameters[0] + 2.0,)
        return lower(self, operator, tensor, expression, *parameters)

    monkeypatch.setattr(file_lowering._FileLowering, "map", shifted)
    with pytest.raises(ConversionError, match="disagrees with LCE's interpreter"):
        bnn_tf.export_c(content, tmp_path / "net.c")


@needs_compiler
def test_values_are_forced(exported, settled):
    """What stands in place of a tensor is what the next steps read."""
    program, _, text = exported(settled(network(binary(8), L.BatchNormalization(), binary(5))))
    images = np.random.default_rng(0).standard_normal((1, 9, 7, 5), np.float32)
    free = check.run(program, text, "net", images, trace=1)
    signs = {tensor: np.ones_like(array) for tensor, array in free.signs.items()}
    job = check.Job(program, text, "net", images, signs)
    (outcome,) = check.run_several([job], trace=1)
    assert all((outcome.signs[tensor] == free.signs[tensor]).all() for tensor in list(signs)[:1])
    assert (outcome.outputs[0] != free.outputs[0]).any()
    job = dataclasses.replace(job, forced=free.signs)
    (same,) = check.run_several([job], trace=1)
    assert (same.outputs[0] == free.outputs[0]).all()
