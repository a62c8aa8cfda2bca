"""Lint and convert agree: what lint calls an error is refused, and nothing else is."""

import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError
from bnn_tf.deploy.convert import convert
from bnn_tf.layers import HardTanh, LearnableBias
from bnn_tf.training import set_seeds

layers = tf.keras.layers

QUANTIZERS = (None, "ste_sign", "approx_sign", "ste_heaviside", "ste_tern", "magnitude_aware_sign")
KERNELS = (None, "ste_sign", "magnitude_aware_sign", "ste_tern", "ste_heaviside")
convolutions = st.fixed_dictionaries(
    {
        "kind": st.just("conv"),
        "filters": st.sampled_from([8, 32]),
        "kernel_size": st.sampled_from([1, 3]),
        "strides": st.sampled_from([1, 2]),
        "padding": st.sampled_from(["same", "valid"]),
        "pad_values": st.sampled_from([0.0, 1.0]),
        "use_bias": st.booleans(),
        "input_quantizer": st.sampled_from(QUANTIZERS),
        "kernel_quantizer": st.sampled_from(KERNELS),
    }
)
MAKERS = {
    "norm": layers.BatchNormalization,
    "relu": layers.ReLU,
    "clip": HardTanh,
    "bias": LearnableBias,
    "max": layers.MaxPooling2D,
    "mean": layers.AveragePooling2D,
    "pad": lambda: layers.ZeroPadding2D(1),
    "sign": lambda: layers.Activation(lq.quantizers.SteSign()),
    "tfsign": lambda: tf.sign,
    "up": layers.UpSampling2D,
    "prelu": lambda: layers.PReLU(shared_axes=[1, 2]),
    "where": lambda: lambda x: tf.where(x >= 0, 1.0, -1.0),
    "crop": lambda: layers.Cropping2D(1),
    "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same"),
    "quantized depthwise": lambda: lq.layers.QuantDepthwiseConv2D(
        3, padding="same", input_quantizer="ste_sign", depthwise_quantizer="ste_sign"
    ),
    "add": lambda: lambda x: layers.add([x, layers.ReLU()(x)]),
    "concatenate": lambda: lambda x: layers.concatenate([x, layers.ReLU()(x)]),
    "erf": lambda: tf.math.erf,
    "bicubic": lambda: lambda x: tf.image.resize(x, x.shape[1:3], "bicubic"),
    "softsign": lambda: layers.Activation("softsign"),
}
"""Layers without settings."""
others = st.sampled_from(list(MAKERS))
flat = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([lq.layers.QuantDense, lq.layers.QuantConv1D]),
        "use_bias": st.booleans(),
        "input_quantizer": st.sampled_from(QUANTIZERS),
        "kernel_quantizer": st.sampled_from(KERNELS),
    }
)
"""Layers behind the maps."""
networks = st.tuples(
    st.lists(st.one_of(convolutions, others), min_size=1, max_size=5),
    st.lists(flat, max_size=2),
    st.booleans(),
)
"""The layers of the trunk, those behind it, and whether the trunk is a second output."""


def build(parts, tail, ends):
    """A network of these layers between a first convolution and a classifier; None if a map is too small."""
    x = image = tf.keras.Input((9, 9, 3))
    x = layers.Conv2D(32, 3, padding="same", name="stem")(x)
    for number, part in enumerate(parts):
        if min(x.shape[1:3]) < 4:
            return None
        if isinstance(part, str):
            x = MAKERS[part]()(x)
        else:
            settings = {key: value for key, value in part.items() if key != "kind"}
            x = lq.layers.QuantConv2D(name=f"conv{number}", **settings)(x)
    trunk = x
    for number, part in enumerate(tail):
        settings = {key: value for key, value in part.items() if key != "kind"}
        if part["kind"] is lq.layers.QuantConv1D:
            x = layers.Reshape((-1, x.shape[-1]))(x)
            x = lq.layers.QuantConv1D(16, 3, padding="same", name=f"line{number}", **settings)(x)
        else:
            x = lq.layers.QuantDense(16, name=f"dense{number}", **settings)(layers.Flatten()(x))
            x = layers.Reshape((1, 16))(x)
    logits = layers.Dense(4)(layers.Flatten()(x))
    return tf.keras.Model(image, [logits, trunk] if ends else logits)


def check(parts):
    tf.keras.backend.clear_session()
    set_seeds(0)
    model = build(*parts)
    if model is None:
        return
    errors = bnn_tf.lint(model).errors
    with tempfile.TemporaryDirectory() as folder:
        refusal = ""
        try:
            convert(model, Path(folder) / "model.tflite", allow_disagreement=True)
        except ConversionError as error:
            refusal = str(error)
    assert bool(errors) == bool(refusal), (errors, refusal)


SETTINGS = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}


@hypothesis.settings(max_examples=8, phases=[hypothesis.Phase.generate], **SETTINGS)
@hypothesis.given(networks)
def test_lint_and_convert_agree(parts):
    check(parts)


@pytest.mark.slow
@hypothesis.settings(max_examples=200, **SETTINGS)
@hypothesis.given(networks)
def test_lint_and_convert_agree_on_200_networks(parts):
    check(parts)
