import json

import numpy as np
import pytest

from bnn_tf import quantizers, subbit
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import fold, lce_file
from bnn_tf.errors import UserError
from bnn_tf.report import accounting
from zoo import (
    BiRealNet18,
    BiRealNet34,
    BiRealNet50,
    CifarResNet18,
    CifarResNet20,
    ReActResNet18,
    VGGSmall,
)


def sub_bit_conv(filters=64, bits=4, **settings):
    return lq.layers.QuantConv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        input_quantizer="approx_sign",
        kernel_quantizer=quantizers.SubBit(bits=bits),
        **settings,
    )


def costs(*layers, shape=(8, 10, 3)):
    model = tf.keras.Sequential([tf.keras.Input(shape), *layers])
    return accounting.account(model)


def only(*layers, **settings):
    return costs(*layers, **settings).layers[0].cost


def real(parameters, macs=0):
    return accounting.Cost(real_parameters=parameters, real_bits=32 * parameters, real_macs=macs)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("bits", "operations"), [(9, 1_676_279_808), (6, 883_900_416), (5, 501_358_592), (4, 297_242_624)]
)
def test_sub_bit_table(bits, operations):
    account = accounting.account(ReActResNet18(method={"name": "subbit", "bits": bits}))
    total, printed = account.total, accounting.published(account)
    assert total.binary_parameters == 10_985_472
    assert total.binary_bits == 10_985_472 * bits // 9
    assert total.bits_per_weight == pytest.approx(bits / 9)
    assert total.bit_operations == operations
    # The paper's figures: parameters to the last digit, bit operations to one unit of the last digit.
    assert f"{total.binary_bits / 1e6:.4g}" == f"{printed['binary_bits'] / 1e6:.4g}"
    assert abs(total.bit_operations - printed["bit_operations"]) < 1e6


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("builder", "memory", "operations"),
    [(BiRealNet18, 33_514_752, 163_985_408), (BiRealNet34, 43_853_056, 192_886_784)],
)
def test_bireal_table(builder, memory, operations):
    account = accounting.account(builder())
    total, printed = account.total, accounting.published(account)
    assert total.memory_bits == memory
    assert total.operations == operations
    # No one rule gives the printed figures of both depths (see `accounting.published`).
    assert total.memory_bits == pytest.approx(printed["memory_bits"], rel=4e-3)
    assert total.operations == pytest.approx(printed["operations"], rel=7e-3)


REFERENCES = {
    "bireal_birealnet50": BiRealNet50,
    "snn_step1_birealnet18": lambda: ReActResNet18(
        method={"name": "real", "activation_name": "sign"}, input_shape=(224, 224, 3)
    ),
    "recu_cifar_resnet20_1w1a": lambda: CifarResNet20(method="recu"),
    "recu_cifar_vgg_small_1w1a": lambda: VGGSmall(method="recu"),
    "ovsw_cResNet18_1w1a": lambda: CifarResNet18(method="ovsw", shortcut="conv"),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", REFERENCES)
def test_agrees_with_the_authors_networks(name, golden_networks):
    reference = golden_networks[name]
    account = accounting.account(REFERENCES[name]())
    total = account.total
    assert total.binary_parameters == reference["binary_conv_params"]
    assert total.binary_macs == reference["macs_binary"]
    assert total.real_macs == reference["macs_real"]
    counted = sorted(
        layer.cost.binary_macs + layer.cost.real_macs for layer in account.layers if layer.kernel
    )
    published = [layer["macs"] for layer in reference["conv_layers"] + reference["linear_layers"]]
    assert counted == sorted(published)
    unused = sum(reference["params_never_used_in_forward"].values())
    assert total.real_parameters + total.binary_parameters == reference["total_trainable_params"] - unused


def test_cifar_resnet20_by_hand():
    total = accounting.account(CifarResNet20(method="bireal")).total
    binary = 9 * (6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    assert total.binary_parameters == binary == 267_264
    assert total.binary_macs == 40_108_032
    assert total.real_macs == 27 * 16 * 32 * 32 + 64 * 10
    batch_norms = 2 * (16 + 6 * 16 + 6 * 32 + 6 * 64 + 64)
    assert total.real_parameters == 27 * 16 + batch_norms + 64 * 10 + 10
    assert total.memory_bits == binary + 32 * total.real_parameters


def test_real_convolution_and_dense():
    conv = only(tf.keras.layers.Conv2D(5, 3, strides=2, padding="same"))
    assert conv == real(5 * 27 + 5, macs=5 * 27 * 4 * 5)
    dense = only(tf.keras.layers.Flatten(), tf.keras.layers.Dense(7))
    assert dense == real(7 * 241, macs=7 * 240)


def test_batch_norm_counts_what_it_folds_to():
    assert only(tf.keras.layers.BatchNormalization()) == real(6)


@pytest.mark.parametrize(
    ("layer", "parameters", "macs"),
    [
        (tf.keras.layers.DepthwiseConv2D(3, use_bias=False), 27, 27 * 6 * 8),
        (tf.keras.layers.SeparableConv2D(4, 3, use_bias=False), 39, 39 * 6 * 8),
        (tf.keras.layers.Conv2DTranspose(4, 2, strides=2, use_bias=False), 48, 48 * 8 * 10),
        (tf.keras.layers.Conv2D(6, 3, groups=3, use_bias=False), 54, 54 * 6 * 8),
        (tf.keras.layers.LocallyConnected2D(2, 3, use_bias=False), 54 * 6 * 8, 54 * 6 * 8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_convolutions(layer, parameters, macs):
    assert only(layer) == real(parameters, macs)


def test_binary_weights_on_real_inputs_are_real_work():
    cost = only(lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_sign", use_bias=False))
    assert (cost.binary_parameters, cost.binary_bits) == (108, 108)
    assert (cost.binary_macs, cost.bit_operations, cost.real_macs) == (0, 0, 108 * 6 * 8)


def plain_conv(**settings):
    return lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_sign", use_bias=False, **settings)


@pytest.mark.parametrize(
    "before",
    [
        [tf.keras.layers.Activation(lq.quantizers.SteSign())],
        [quantizers.ApproxSign()],
        [tf.keras.layers.Activation("ste_sign"), tf.keras.layers.MaxPooling2D(1)],
    ],
    ids=["activation", "quantizer", "pooled"],
)
def test_signs_that_a_layer_before_takes_make_binary_work(before):
    layer = costs(*before, plain_conv()).layers[0]
    assert (layer.cost.binary_macs, layer.cost.bit_operations, layer.cost.real_macs) == (5184, 5184, 0)
    assert layer.widths == "1 / 1"


def test_a_layer_on_signs_and_on_numbers_counts_as_both():
    image = tf.keras.Input((8, 10, 3))
    conv = plain_conv(name="conv")
    both = [conv(tf.keras.layers.Activation("ste_sign")(image)), conv(image)]
    (layer,) = accounting.account(tf.keras.Model(image, both)).layers
    assert (layer.cost.binary_macs, layer.cost.real_macs, layer.widths) == (5184, 5184, "1 / 32")
    assert layer.cost.binary_parameters == 108


def test_a_layer_without_a_configuration_counts():
    class Shift(tf.keras.layers.Layer):
        def build(self, shape):
            self.offset = self.add_weight("offset", (3,))

        def call(self, x):
            return x + self.offset

        def get_config(self):
            raise NotImplementedError

    assert only(Shift()) == real(3)


class HalfABit(lq.quantizers.SteSign):
    bits_per_weight = 0.5


def test_a_quantizer_below_one_bit_has_the_bits_it_says_and_a_codebook_only_if_it_says_so():
    def conv(quantizer):
        return lq.layers.QuantConv2D(
            40, 1, input_quantizer="ste_sign", kernel_quantizer=quantizer, use_bias=False
        )

    cost = only(conv(HalfABit()))
    assert (cost.binary_parameters, cost.binary_bits, cost.codebook_bits) == (120, 60, 0)
    assert cost.bit_operations == cost.binary_macs == 120 * 80


def test_codebooks_of_other_packages_count():
    class Three(HalfABit):
        bits_per_weight = 2 / 9

        def patterns(self):
            return np.ones((3, 9), np.float32)

    settings = {"input_quantizer": "ste_sign", "kernel_quantizer": Three(), "use_bias": False}
    layer = costs(lq.layers.QuantConv2D(8, 3, **settings)).layers[0]
    assert (layer.cost.binary_bits, layer.cost.codebook_bits, layer.patterns) == (3 * 8 * 2, 27, 3)
    assert layer.cost.bit_operations == 48 * (3 * 3 * 9 + 3 * 8 / 2)


def test_marked_kernels_are_binary():
    # Larq's Bop keeps binary weights without latent ones and marks them with a quantizer that does nothing.
    mark = lq.quantizers.NoOp(precision=1)
    cost = only(lq.layers.QuantConv2D(4, 3, kernel_quantizer=mark, use_bias=False))
    assert (cost.binary_parameters, cost.real_parameters) == (108, 0)


def test_state_of_quantizers_is_no_parameter():
    conv = lq.layers.QuantConv2D(
        4, 3, input_quantizer="approx_sign", kernel_quantizer=quantizers.ReCU(), use_bias=False
    )
    assert only(conv).real_parameters == 0


def test_codebook_saves_bits_and_operations():
    cost = only(sub_bit_conv(filters=64, bits=4))
    assert cost.binary_bits == 3 * 64 * 4
    assert cost.codebook_bits == 9 * 16
    assert cost.memory_bits == 3 * 64 * 4 + 9 * 16
    assert cost.bit_operations == 80 * (3 * 16 * 9 + 3 * 64 / 2)
    assert cost.binary_macs == 80 * 3 * 64 * 9


def test_codebook_larger_than_the_layer_saves_bits_alone():
    cost = only(sub_bit_conv(filters=8, bits=4))
    assert cost.bit_operations == cost.binary_macs
    assert cost.binary_bits == 3 * 8 * 4


def test_nine_bits_are_the_plain_binary_network():
    cost = only(sub_bit_conv(bits=9))
    assert (cost.codebook_bits, cost.bits_per_weight, cost.bit_operations) == (0, 1, cost.binary_macs)


def test_shared_and_nested_layers():
    image = tf.keras.Input((4, 4, 2))
    conv = tf.keras.layers.Conv2D(2, 1, use_bias=False, name="conv")
    inner_input = tf.keras.Input((4, 4, 2))
    inner = tf.keras.Model(inner_input, conv(conv(inner_input)), name="inner")
    model = tf.keras.Model(image, inner(inner(image)))
    account = accounting.account(model)
    assert [layer.name for layer in account.layers] == ["inner/conv"]
    assert account.total == real(4, macs=4 * 16 * 2 * 2)


def test_channels_first():
    cost = only(tf.keras.layers.Conv2D(5, 3, data_format="channels_first", use_bias=False), shape=(3, 8, 10))
    assert cost.real_macs == 5 * 27 * 6 * 8


def test_other_image_size():
    model = tf.keras.Sequential(
        [tf.keras.Input((None, None, 3)), sub_bit_conv(8, bits=9), tf.keras.layers.GlobalMaxPool2D()]
    )
    with pytest.raises(UserError, match="unknown size: build it for one size"):
        accounting.account(model)
    resized = accounting.account(accounting.at_size(model, (5, 6)))
    assert resized.input_shape == (5, 6, 3)
    assert resized.total.binary_macs == 27 * 8 * 30


def test_size_that_does_not_fit():
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), tf.keras.layers.MaxPool2D(8)], name="net")
    with pytest.raises(UserError, match="net does not take images of 2×2"):
        accounting.at_size(model, (2, 2))


def test_size_that_would_change_the_classifier():
    layers = [tf.keras.Input((8, 8, 3)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(2)]
    with pytest.raises(UserError, match="a layer is made for another size"):
        accounting.at_size(tf.keras.Sequential(layers, name="net"), (16, 16))


def test_model_without_graph():
    class Subclassed(tf.keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UserError, match="cannot be counted"):
        accounting.account(Subclassed())


def test_other_networks_have_no_published_figures():
    assert accounting.published(costs(sub_bit_conv())) == {}


def test_to_dict_is_plain():
    account = costs(sub_bit_conv(), tf.keras.layers.BatchNormalization())
    read = json.loads(json.dumps(account.to_dict()))
    assert read["total"]["memory_bits"] == account.total.memory_bits
    assert [layer["kernel"] for layer in read["layers"]] == [[3, 3, 3, 64], None]


@pytest.fixture(scope="module")
def network():
    """Two binary convolutions, the first of few channels, whose signs pass packed from one to the other."""
    return tf.keras.Sequential(
        [
            tf.keras.Input((8, 10, 3)),
            tf.keras.layers.Conv2D(16, 3, padding="same", strides=2),
            sub_bit_conv(40, pad_values=1.0, name="first"),
            tf.keras.layers.BatchNormalization(scale=False),
            sub_bit_conv(48, pad_values=1.0, name="second"),
            tf.keras.layers.Conv2DTranspose(4, 2, strides=2, use_bias=False),
            tf.keras.layers.DepthwiseConv2D(3, use_bias=False),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(5),
        ]
    )


@pytest.fixture(scope="module")
def converted(network):
    return lce_file.LceFile(lce_file.to_flatbuffer(fold.fold(network)))


def test_a_converted_file_multiplies_as_its_network_does(network, converted):
    before, after = accounting.account(network), accounting.account_file(converted)
    kernels = [
        [
            (layer.kernel, layer.cost.binary_macs, layer.cost.real_macs)
            for layer in counted.layers
            if layer.kernel
        ]
        for counted in (before, after)
    ]
    kernels[0][4] = ((3, 3, 4, 1), *kernels[0][4][1:])
    assert kernels[1] == kernels[0]
    assert after.total.binary_parameters == before.total.binary_parameters
    assert after.input_shape == before.input_shape
    assert after.layers[-1].output == (5,)


def test_a_converted_file_takes_the_bits_that_are_stored(converted):
    counted = accounting.account_file(converted)
    assert [layer.kind for layer in counted.layers] == [operator.name for operator in converted.operators]
    first, second = (layer for layer in counted.layers if layer.kind == "LceBconv2d")
    assert (first.output, second.output) == ((4, 5, 40), (4, 5, 48))
    assert (first.kernel, first.widths) == ((3, 3, 16, 40), "1 / 1")
    assert (first.cost.binary_bits, second.cost.binary_bits) == (9 * 40 * 32, 9 * 48 * 64)
    # A threshold for each channel of the signs that come out; a multiplier and a bias for each of the sums.
    assert (first.cost.real_bits, second.cost.real_bits) == (32 * 40, 2 * 32 * 48)
    assert counted.total.memory_bits < 8 * counted.file_size


def test_a_sub_bit_file_takes_the_bits_of_its_codebooks(converted):
    model, report = subbit.describe(subbit.compress(converted.content)[0])
    counted = accounting.account_file(lce_file.LceFile(model), report.layers)
    layers = [layer for layer in counted.layers if layer.kind == "LceBconv2d"]
    for layer, stored in zip(layers, report.layers, strict=True):
        assert (layer.patterns, layer.index_bits) == (stored.patterns, 4)
        assert layer.cost.binary_bits + layer.cost.codebook_bits == 8 * stored.coded_bytes
        assert layer.cost.codebook_bits == 9 * stored.patterns


def test_int8_files_have_eight_bits_per_weight(rng):
    model = tf.keras.Sequential([tf.keras.Input((4, 4, 3)), tf.keras.layers.Conv2D(5, 1)])
    images = rng.random((2, 4, 4, 3), np.float32)
    counted = accounting.account_file(lce_file.LceFile(lce_file.plain_tflite(model, images)))
    (conv,) = (layer for layer in counted.layers if layer.kind == "CONV_2D")
    assert (conv.widths, conv.cost.real_parameters, conv.cost.real_bits) == ("8 / 8", 20, 8 * 15 + 32 * 5)


def test_larq_table_counts_no_state(capsys):
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), sub_bit_conv(name="conv")])
    before = model.get_weights()
    accounting.print_larq_summary(model)
    row = next(line for line in capsys.readouterr().out.splitlines() if "| conv " in line)
    cells = [cell.strip() for cell in row.split("|")[1].split()]
    assert cells[-3:] == ["1728", "0.21", "110592"]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_notebooks_get_a_short_text_and_a_table():
    counted = costs(sub_bit_conv())
    assert len(repr(counted)) < 200
    assert "1,728 binary and 0 real parameters" in repr(counted)
    assert counted._repr_html_().count("<tr>") == 1 + len(counted.layers) + 1
