"""Weights move by layer, name and shape, and nothing is lost silently."""

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.training import TransferReport, transfer
from bnn_tf.training.transfer import require_complete, require_some

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
    given = weights(source)
    for name, value in weights(target).items():
        np.testing.assert_array_equal(value, given.get(name, start[name]), err_msg=name)


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
    require_some(report)


def test_nothing_in_common(tiny):
    other = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), tf.keras.layers.Conv2D(4, 3, name="first")])
    report = transfer(other, tiny())
    assert report.matched == ()
    with pytest.raises(UserError, match="no kernel of the source fits this network") as found:
        require_some(report)
    assert "unused in the source: first/bias, first/kernel" in str(found.value)


def test_a_norm_alone_is_not_something():
    report = TransferReport(("stem_bn/gamma",), (), (), ())
    with pytest.raises(UserError):
        require_some(report)


def dense(*names):
    """A model of dense layers with random weights."""
    return tf.keras.Sequential(
        [tf.keras.Input((2,)), *(tf.keras.layers.Dense(2, name=name) for name in names)]
    )


def test_nested_models_are_entered():
    source, target = (tf.keras.Sequential([tf.keras.Input((2,)), dense("a", "b")]) for _ in range(2))
    report = transfer(source, target)
    assert report.matched == ("a/bias", "a/kernel", "b/bias", "b/kernel")
    for found, wanted in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


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
    from bnn_tf.training.transfer import require_same_orientation

    plain = tf.keras.Sequential([tf.keras.Input((4, 4, 1)), tf.keras.layers.Conv2D(2, 3)])
    turned = tf.keras.Sequential([tf.keras.Input((4, 4, 1)), Flip(), tf.keras.layers.Conv2D(2, 3)])
    require_same_orientation(plain, plain)
    require_same_orientation(turned, turned)
    with pytest.raises(UserError, match="are turned by 180°.* add --set model.torch_padding=true"):
        require_same_orientation(turned, plain)
    with pytest.raises(UserError, match="are not turned by 180°; leave out model.torch_padding"):
        require_same_orientation(plain, turned)
