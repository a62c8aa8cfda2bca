import numpy as np
import pytest

from bnn_tf import codebook, kernels, quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.training.seeding import set_seeds


def conv(name, quantizer, filters=6, size=3):
    return lq.layers.QuantConv2D(filters, size, kernel_quantizer=quantizer, use_bias=False, name=name)


@pytest.fixture(scope="module")
def found():
    set_seeds(0)
    inner = tf.keras.Sequential([conv("inner", quantizers.ReCU(tau=0.9))], name="nested")
    layers = [
        conv("first", quantizers.ScaledSign(), size=1),
        conv("real", None),
        inner,
        conv("last", quantizers.SubBit(bits=4)),
    ]
    model = tf.keras.Sequential([tf.keras.Input((9, 9, 3)), *layers])
    return model, kernels.binary_kernels(model)


def test_binary_kernels_in_order(found):
    _, kernels_ = found
    assert [kernel.name for kernel in kernels_] == ["first", "inner", "last"]
    assert [kernel.has_slices for kernel in kernels_] == [False, True, True]
    assert [kernel.tau for kernel in kernels_] == pytest.approx([kernels.REFERENCE_TAU, 0.9, 0.99])


def test_signs_are_those_that_the_layer_uses(found):
    model, kernels_ = found
    layer = model.get_layer("nested").get_layer("inner")
    np.testing.assert_array_equal(
        kernels_[1].signs,
        layer.get_weights()[0] * 0 + layer.kernel_quantizer(tf.constant(kernels_[1].latent)).numpy(),
    )
    assert set(np.unique(kernels_[0].signs)) == {-1, 1}


def test_patterns_of_a_codebook(found):
    _, kernels_ = found
    sub_bit = kernels_[2]
    assert len(sub_bit.patterns) == 16
    counts = kernels.pattern_counts(sub_bit.signs)
    assert counts[sub_bit.patterns].sum() == 6 * 6  # every slice is one of the layer's patterns
    assert kernels_[1].patterns is None


def test_dead_share_is_what_the_authors_clamp(golden):
    arrays = golden("recu_kernel")
    for tau in (85, 93, 99):
        w1 = kernels.standardized(arrays[f"tau{tau}_w"])
        assert kernels.bound(w1, tau / 100) == pytest.approx(float(arrays[f"tau{tau}_Q_tau"]), rel=1e-5)
        clamped = float(arrays[f"tau{tau}_clamped_fraction"])
        assert kernels.dead_share(w1, tau / 100) == pytest.approx(clamped, abs=1e-6)


def test_dead_share_of_a_laplace_distribution(rng):
    w1 = rng.laplace(size=(3, 3, 100, 100)).astype(np.float32)
    for tau in (0.7, 0.9, 0.99):
        assert kernels.dead_share(w1, tau) == pytest.approx(2 - 2 * tau, abs=0.01)


def test_quantization_error_by_hand():
    w1 = np.array([1.0, -1.0, 3.0, -3.0], np.float32).reshape(1, 1, 4, 1)
    # Without a clamp α is 2, and each weight is off by 1; E = 2, so that τ = 0.7 clamps at 1.02.
    assert kernels.quantization_error(w1, 1.0) == pytest.approx(1 / 5)
    limit = -2 * np.log(0.6)
    assert kernels.quantization_error(w1, 0.7) == pytest.approx(((limit - 1) / 2) ** 2 / 5, rel=1e-4)


def test_quantization_error_has_a_scale_per_channel():
    w1 = np.array([[1.0, -5.0], [-1.0, 5.0]], np.float32)
    assert kernels.quantization_error(w1, 1.0) == pytest.approx(0, abs=1e-7)


def test_error_and_entropy_grow_with_tau(rng):
    w1 = kernels.standardized(rng.standard_normal((3, 3, 16, 16), np.float32))
    taus = (0.6, 0.8, 0.9, 0.99)
    errors = [kernels.quantization_error(w1, tau) for tau in taus]
    entropies = [kernels.clamped_entropy(w1, tau) for tau in taus]
    assert errors == sorted(errors)
    assert entropies == sorted(entropies)


def test_histogram_counts_every_weight():
    counts = kernels.histogram(np.array([-100.0, -0.1, 0.1, 0.2, 100.0]))
    assert counts.sum() == 5
    assert counts[[0, 23, 24, 47]].tolist() == [1, 1, 2, 1]


def test_entropy():
    assert kernels.entropy([5, 5, 0, 5, 5]) == pytest.approx(2)
    assert kernels.entropy([7, 0]) == 0
    assert kernels.entropy([]) == 0
    assert kernels.sign_entropy(np.array([1, 1, 1, -1])) == pytest.approx(0.8112781)


def test_pattern_counts_follow_the_codebooks_numbers():
    patterns = codebook.all_patterns()[[3, 3, 500]]
    signs = patterns.T.reshape(3, 3, 1, 3)
    counts = kernels.pattern_counts(signs)
    assert (counts[3], counts[500], counts.sum()) == (2, 1, 3)
    assert codebook.pattern_numbers(tf.constant(patterns)).numpy().tolist() == [3, 3, 500]
