"""Methods as values: found by name, serialisable, and what each makes of a convolution."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from bnn_tf import _tensorflow, methods, observe, quantizers, transforms
from bnn_tf._tensorflow import lq, tf
from bnn_tf.callbacks import TauSchedule
from bnn_tf.errors import UsageError, UserError

OPTIONS = [
    methods.BiReal(clip_value=None),
    methods.ReCU(tau_min=0.7, tau_max=0.8),
    methods.SubBit(bits=4, seed=3, interval=5),
    methods.OvSW(delta=None, silence_decay=1e-3, scale="learned"),
    methods.Real(activation_name="sign"),
]
NAN = float("nan")
BINARY = ("bireal", "recu", "subbit", "ovsw")


def built(method, **options):
    """A model of one convolution of the method."""
    image = tf.keras.Input((6, 6, 4))
    return tf.keras.Model(image, methods.get(method).binary_conv(image, 8, name="block", **options))


def test_a_method_needs_a_name():
    @dataclasses.dataclass(frozen=True)
    class Nameless(methods.Method):
        def input_quantizer(self): ...
        def kernel_quantizer(self, kernel_size, name): ...

    with pytest.raises(
        UserError, match="the method Nameless has no name: give its class one, such as name: "
    ):
        Nameless()


class TestGet:
    @pytest.mark.parametrize("method", OPTIONS, ids=lambda m: m.name)
    def test_survives_json(self, method):
        assert methods.get(json.loads(json.dumps(method.get_config()))) == method

    @pytest.mark.parametrize("name", methods.METHODS)
    def test_by_name_is_the_default(self, name):
        assert methods.get(name) == methods.METHODS.get(name)()
        assert methods.get(name).name == name

    def test_options_beside_a_name_or_a_configuration(self):
        assert methods.get("subbit", bits=6) == methods.SubBit(bits=6)
        assert methods.get({"name": "subbit", "bits": 4, "seed": 9}, bits=6) == methods.SubBit(6, 9)

    def test_a_method_is_itself(self):
        method = methods.ReCU(0.6)
        assert methods.get(method) is method

    def test_values_are_frozen_and_hashable(self):
        assert len({methods.ReCU(0.6), methods.ReCU(0.6), methods.ReCU(0.7)}) == 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            methods.ReCU().tau_min = 0.5

    def test_unknown_names_have_the_nearest(self):
        with pytest.raises(
            UsageError, match=r"no method called 'recuu'; did you mean 'recu'\? \(there are: bireal, "
        ):
            methods.get("recuu")
        with pytest.raises(UsageError, match="no option of method recu called 'tau'; did you mean 'tau_min'"):
            methods.get("recu", tau=0.9)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            (
                "recu",
                {"tau_min": "high"},
                "method recu: tau_min must be a number above 0.5 and at most 1, not 'high'",
            ),
            ("recu", {"tau_min": True}, "tau_min must be a number .*, not True"),
            ("recu", {"tau_min": 85}, "tau_min must be .* at most 1, not 85"),
            ("recu", {"tau_max": NAN}, "tau_max must be a number .*, not nan"),
            ("recu", {"tau_min": 0.9, "tau_max": 0.8}, "tau_min must be at most tau_max, not 0.9 and 0.8"),
            ("bireal", {"clip_value": 0}, "clip_value must be a number above 0, or none, not 0"),
            ("bireal", {"scaled": 1}, "scaled must be true or false, not 1"),
            ("subbit", {"bits": 5.5}, "bits must be a whole number at least 1 and at most 9, not 5.5"),
            ("subbit", {"bits": 0}, "bits must be .*, not 0"),
            ("subbit", {"seed": 2**32}, "seed must be a whole number at least 0 and below 4294967296"),
            ("subbit", {"interval": 0}, "interval must be a whole number at least 1, not 0"),
            ("ovsw", {"scale": "none"}, "scale must be standardized or learned, not 'none'"),
            ("ovsw", {"telemetry": 1}, "telemetry must be true or false, not 1"),
            ("ovsw", {"delta": [0.1]}, "delta must be a number at least 0, or none"),
            ("ovsw", {"delta": NAN}, "delta must be .*, not nan"),
            ("ovsw", {"silence_decay": -1e-4}, "silence_decay must be .*, not -0.0001"),
            ("ovsw", {"silence_momentum": 1.0}, "silence_momentum must be a number at least 0 and below 1"),
            ("real", {"activation_name": "tanh"}, "activation_name must be relu, leaky_clip, clip or sign"),
        ],
    )
    def test_wrong_values(self, name, options, message):
        with pytest.raises(UsageError, match=message):
            methods.get(name, **options)
        with pytest.raises(UsageError, match=message):
            methods.METHODS.get(name)(**options)

    def test_whole_numbers_and_none_where_they_make_sense(self):
        assert methods.get("ovsw", delta=1, silence_decay=None).delta == 1


class TestOwnMethods:
    """Methods of other packages."""

    @pytest.fixture
    def signs(self):
        with methods.METHODS.temporary():

            @methods.register
            @dataclasses.dataclass(frozen=True)
            class PlainSigns(methods.Method):
                width: float = 1.0

                def input_quantizer(self):
                    return lq.quantizers.SteSign()

                def kernel_quantizer(self, kernel_size, name):
                    return lq.quantizers.SteSign(clip_value=self.width)

            yield PlainSigns

    def test_registered(self, signs):
        assert methods.get("plain_signs", width=2) == signs(2.0)
        assert built("plain_signs").get_layer("block").kernel.precision == 1
        # Another process finds it where it is, not under a name that only its module registers.
        config = signs(2.0).get_config()
        assert config == {"name": f"{__name__}:{signs.__qualname__}", "width": 2.0}
        assert methods.get(config) == signs(2.0)

    def test_names_are_taken_once(self, signs):
        with pytest.raises(ValueError, match="there is a method called 'recu' already"):
            methods.register(type("ReCU", (methods.ReCU,), {"name": "recu"}))

    def test_by_path(self):
        assert methods.get("bnn_tf.methods:ReCU", tau_min=0.9) == methods.ReCU(0.9)
        with pytest.raises(
            UserError, match="'bnn_tf.math:sign' is no method: it does not derive from Method"
        ):
            methods.get("bnn_tf.math:sign")
        with pytest.raises(UserError, match="module 'os', which is not installed"):
            methods.get({"name": "os:system", "command": "true"})

    @pytest.mark.parametrize("field", ["clip", "transforms", "name", "diagnostics", "get_config"])
    def test_a_field_that_hides_a_hook(self, field):
        with pytest.raises(
            TypeError, match=f"the field '{field}' of the method Mine hides the hook Method.{field}"
        ):
            type("Mine", (methods.Method,), {"__annotations__": {field: "float"}, field: 1.0})
        if callable(getattr(methods.Method, field, None)):
            with pytest.raises(TypeError, match=f"Mine.{field} must be a method of its class"):
                type("Mine", (methods.Method,), {field: 1.0})


def test_diagnostics_are_measured_somewhere():
    known = {*observe.FIGURES, *observe.STEP_FIGURES, "tau", "histogram", "codebook"}
    for name in methods.METHODS:
        assert set(methods.METHODS.get(name).diagnostics) <= known
    assert "tau" not in methods.BiReal.diagnostics


def test_listing_needs_no_tensorflow():
    code = "import sys; from bnn_tf import methods, schedules; methods.get('ovsw').get_config();"
    code += "list(methods.METHODS); assert not {'tensorflow', 'larq', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("field", "shape", "model", "expected"),
    [
        ("weights", (576, 1), "bireal_net18", {"bireal": {}}),
        ("weight", (8, 8, 3, 3), "bireal_net50", {"bireal": {}}),
        ("alpha", (8, 1, 1), "bireal_net18", {"recu": {}}),
        ("binarize.patterns", (32, 9), "react_resnet18", {"subbit": {"bits": 5}}),
        ("scaling_factor", (8,), "cifar_resnet20", {"ovsw": {"scale": "learned"}}),
        ("weight", (8, 8, 3, 3), "vgg_small", {"ovsw": {"scale": "standardized"}}),
        ("weight", (8, 8, 3, 3), "react_resnet18", {}),
    ],
)
def test_checkpoints_show_their_method(field, shape, model, expected):
    arrays = {f"layer1.0.conv.{field}": np.zeros(shape), "fc.weight": np.zeros((10, 8))}
    shown = {name: methods.METHODS.get(name).recognizes(arrays, model) for name in methods.METHODS}
    assert {name: options for name, options in shown.items() if options is not None} == expected


@pytest.mark.parametrize(
    ("make", "warns"),
    [
        (lambda: methods.ReCU().kernel_quantizer(3, "conv"), False),
        (lambda: methods.BiReal(clip_value=None, scaled=False).kernel_quantizer(3, "conv"), False),
        (lambda: lq.quantizers.SteSign(), True),
    ],
)
def test_larq_warns_once_of_starved_weights_where_it_applies(make, warns, caplog, monkeypatch):
    monkeypatch.setattr(_tensorflow, "_warned", False)  # as in a new process
    caplog.set_level("WARNING", "larq.layers_base")
    lq.layers.QuantConv2D(2, 3, kernel_quantizer=make())
    lq.layers.QuantSeparableConv2D(2, 3, pointwise_quantizer=make())
    assert caplog.text.count("starved weights") == warns


class TestConvolution:
    @pytest.mark.parametrize(
        ("method", "activation", "kernel"),
        [
            ("bireal", {"normalize": False, "stop_gradient": False}, quantizers.ScaledSign),
            ("recu", {"normalize": True, "stop_gradient": False}, quantizers.ReCU),
            ("subbit", {"normalize": False, "stop_gradient": False}, quantizers.SubBit),
            ("ovsw", {"normalize": True, "stop_gradient": True}, quantizers.IdentitySign),
        ],
    )
    def test_quantizers(self, method, activation, kernel):
        conv = built(method).get_layer("block")
        assert type(conv.kernel_quantizer) is kernel
        assert type(conv.input_quantizer) is quantizers.ApproxSign
        assert activation.items() <= conv.input_quantizer.get_config().items()
        assert conv.kernel_quantizer.precision == conv.input_quantizer.precision == conv.kernel.precision == 1
        assert not conv.use_bias

    @pytest.mark.parametrize("method", BINARY)
    def test_computes_with_signs(self, method, rng):
        """The output is a sum of ±1 products times one positive number per channel."""
        model = built(method, pad_values=1)
        kernel = model.get_layer("block").kernel  # Bi-Real's starts with positive weights alone
        kernel.assign(0.01 * rng.normal(size=kernel.shape).astype("f"))
        x = rng.normal(size=(2, 6, 6, 4)).astype("f")
        y = model(x, training=False).numpy().reshape(-1, 8)
        y /= np.abs(y).max(axis=0)
        step = np.array([np.diff(np.unique(np.round(channel, 4))).min() for channel in y.T])
        counts = y / (step / 2)
        np.testing.assert_allclose(counts, np.round(counts), atol=0.02)
        assert np.abs(np.round(counts)).max() <= 36
        assert (np.round(counts) % 2 == 0).all()  # 36 terms of ±1

    @pytest.mark.parametrize("method", methods.METHODS)
    @pytest.mark.parametrize(("kernel_size", "strides"), [(1, 1), (3, 2)])
    def test_shapes(self, method, kernel_size, strides):
        model = built(method, kernel_size=kernel_size, strides=strides, pad_values=1.0)
        conv = model.get_layer("block")
        assert model.output_shape == (None, 6 // strides, 6 // strides, 8)
        assert conv.kernel.shape == (kernel_size, kernel_size, 4, 8)
        assert conv.pad_values == 1.0

    @pytest.mark.parametrize("method", methods.METHODS)
    def test_every_layer_starts_differently(self, method):
        image = tf.keras.Input((6, 6, 4))
        method = methods.get(method)
        x = method.binary_conv(image, 4, name="a")
        model = tf.keras.Model(image, method.binary_conv(x, 4, name="b"))
        a, b = (model.get_layer(name).kernel.numpy() for name in "ab")
        assert not np.array_equal(a, b)
        if method.name == "subbit":
            codebooks = [model.get_layer(name).kernel_quantizer.codebook.numpy() for name in "ab"]
            assert not np.array_equal(*codebooks)

    def test_bireal_without_scales(self, rng):
        kernel = tf.constant(rng.normal(size=(3, 3, 2, 4)).astype("f"))
        quantizer = methods.BiReal(clip_value=None, scaled=False).kernel_quantizer(3, "conv")
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            signs = quantizer(kernel)
        np.testing.assert_array_equal(signs, np.where(kernel.numpy() < 0, -1.0, 1.0))
        np.testing.assert_array_equal(tape.gradient(signs, kernel), np.ones(kernel.shape))

    def test_large_kernels_of_sub_bit_say_that_they_stay_at_one_bit(self, caplog):
        caplog.set_level("INFO")
        conv = built("subbit", kernel_size=1).get_layer("block")
        assert type(conv.kernel_quantizer) is quantizers.ScaledSign
        assert "block: a 1×1 kernel has no codebook and stays at 1 bit" in caplog.text

    def test_sub_bit_interval(self):
        assert methods.SubBit().kernel_quantizer(3, "conv").interval == 25
        assert methods.SubBit(interval=5).kernel_quantizer(3, "conv").interval == 5

    def test_sub_bit_seeds(self):
        assert methods.layer_seed(0, "a") == methods.layer_seed(0, "a")
        assert len({methods.layer_seed(0, "a"), methods.layer_seed(0, "b"), methods.layer_seed(1, "a")}) == 3

        def codebook(**options):
            return built(methods.SubBit(**options)).get_layer("block").kernel_quantizer.codebook.numpy()

        np.testing.assert_array_equal(codebook(seed=1), codebook(seed=1))
        assert not np.array_equal(codebook(seed=1), codebook(seed=2))
        assert codebook(bits=4).shape == (16, 9)

    def test_recu_starts_at_its_first_tau_with_a_learned_scale(self):
        model = built(methods.ReCU(tau_min=0.6))
        assert float(model.get_layer("block").kernel_quantizer.tau) == pytest.approx(0.6)
        scale = model.get_layer("block").kernel_quantizer.learned_scale
        assert scale.trainable
        assert scale.shape == (model.get_layer("block").filters,)
        assert 0 <= scale.numpy().min() < scale.numpy().max() < 1

    def test_ovsw_learned_scale_starts_at_the_mean_magnitude(self):
        model = built(methods.OvSW(scale="learned"))
        kernel = model.get_layer("block").kernel.numpy()
        np.testing.assert_allclose(
            model.get_layer("block").kernel_quantizer.learned_scale.numpy(),
            np.abs(kernel).mean((0, 1, 2)),
            rtol=1e-5,
        )
        assert [layer.name for layer in built("ovsw").layers][-1] == "block"


class TestReal:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("relu", [0.0, 0.0, 0.5, 3.0]),
            ("leaky_clip", [-1.2, -0.5, 0.5, 1.2]),
            ("clip", [-1.0, -0.5, 0.5, 1.0]),
            ("sign", [-1.0, -1.0, 1.0, 1.0]),
        ],
    )
    def test_activations(self, name, expected):
        """A 1×1 kernel of ones shows the activation itself."""
        image = tf.keras.Input((1, 4, 1))
        model = tf.keras.Model(image, methods.Real(name).binary_conv(image, 1, 1, name="block"))
        model.get_layer("block").set_weights([np.ones((1, 1, 1, 1), "f")])
        x = np.array([-3.0, -0.5, 0.5, 3.0], "f").reshape(1, 1, 4, 1)
        np.testing.assert_allclose(model(x).numpy().ravel(), expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            (methods.Real("relu"), [0.0, 0.5, 3.0]),
            (methods.Real("leaky_clip"), [-1.2, 0.5, 1.2]),
            (methods.Real("clip"), [-1.0, 0.5, 1.0]),
            (methods.Real("sign"), [-1.0, 0.5, 1.0]),
            (methods.ReCU(), [-1.0, 0.5, 1.0]),
        ],
    )
    def test_clip(self, method, expected):
        """What takes the place of hard-tanh; binary methods and `sign` keep it."""
        x = tf.constant([-3.0, 0.5, 3.0])
        np.testing.assert_allclose(method.clip(x, "clip"), expected, rtol=1e-6)

    def test_an_activation_elsewhere(self):
        """With `activate=False` a 1×1 kernel of ones is the identity."""
        image = tf.keras.Input((1, 2, 1))
        method = methods.Real("relu")
        model = tf.keras.Model(image, method.binary_conv(image, 1, 1, activate=False, name="block"))
        model.get_layer("block").set_weights([np.ones((1, 1, 1, 1), "f")])
        np.testing.assert_array_equal(model(np.float32([[[[-3.0], [2.0]]]])).numpy().ravel(), [-3.0, 2.0])

    def test_kernels_stay_real(self):
        conv = built("real").get_layer("block")
        assert conv.kernel_quantizer is None
        assert not transforms.is_binary_kernel(conv.kernel)


class TestOptimizer:
    def test_decay_comes_after_the_method_s_transforms(self):
        method = methods.OvSW(telemetry=False)
        chain = method.optimizer("sgd", learning_rate=0.1, weight_decay=1e-4).transforms
        assert [type(transform) for transform in chain] == [
            transforms.AdaptiveGradientScale, transforms.SilenceDecay, transforms.WeightDecay,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("options", "left"),
        [
            ({"delta": 0}, [transforms.SilenceDecay]),
            ({"delta": None}, [transforms.SilenceDecay]),
            ({"silence_decay": 0}, [transforms.AdaptiveGradientScale]),
            ({"delta": None, "silence_decay": None}, []),
        ],
    )
    def test_ablations_of_ovsw(self, options, left):
        method = methods.OvSW(telemetry=False, **options)
        assert [type(transform) for transform in method.transforms()] == left

    def test_ovsw_hands_on_its_figures(self):
        scale, decay = methods.OvSW(0.1, 0.2, 0.3, 0.4, 0.5, telemetry=False).transforms()
        assert scale.get_config() == {"delta": 0.1}
        assert decay.get_config() == {"decay": 0.2, "momentum": 0.3, "threshold": 0.4, "initial": 0.5}

    @pytest.mark.parametrize("name", ["bireal", "recu", "subbit", "real"])
    def test_the_others_have_none(self, name):
        assert methods.get(name).optimizer("adam").transforms == ()

    def test_options_reach_it(self):
        method = methods.BiReal()
        config = method.optimizer("sgd", learning_rate=0.3, momentum=0.8, nesterov=True).get_config()
        assert (config["learning_rate"], config["momentum"], config["nesterov"]) == (0.3, 0.8, True)
        (decay,) = method.optimizer("adam", weight_decay=0.1, decay_only="kernels").transforms
        assert decay.get_config() == {"rate": 0.1, "only": "kernels"}

    def test_each_has_state_of_its_own(self):
        method = methods.OvSW()
        first, second = (method.optimizer("sgd").transforms for _ in range(2))
        assert not {id(t) for t in first} & {id(t) for t in second}

    def test_unknown(self):
        with pytest.raises(UsageError, match="no optimizer called 'sdg'; did you mean 'sgd'"):
            methods.BiReal().optimizer("sdg")


def test_callbacks():
    assert [type(callback) for callback in methods.ReCU().callbacks(epochs=3)] == [TauSchedule]
    for name in ("bireal", "subbit", "real"):
        assert methods.get(name).callbacks(epochs=3) == []
