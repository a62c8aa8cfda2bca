"""The sub-bit codebook: the authors' arrays, brute force in NumPy, and refinement in every corner."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_tf import codebook
from bnn_tf._tensorflow import tf

BITS = pytest.mark.parametrize("bits", [4, 5, 6])


def number_of(pattern):
    return sum(2**e for e, value in enumerate(pattern) if value > 0)


def brute_force_indices(kernel, memory):
    """The nearest pattern of every slice by its definition, in float64."""
    cin, cout = kernel.shape[2:]
    return np.array(
        [
            [
                np.argmin(((kernel[:, :, i, o].reshape(9).astype(float) - memory) ** 2).sum(1))
                for o in range(cout)
            ]
            for i in range(cin)
        ]
    )


# The authors' arrays


@BITS
@pytest.mark.parametrize("state", ["", "lat_"])
@pytest.mark.parametrize("learns", [False, True])
def test_quantize(golden, assert_close, value_and_gradients, bits, state, learns):
    a, prefix = golden("snn_binarize"), f"b{bits}_"
    latent = a[f"{prefix}{state}patterns" if state else f"{prefix}patterns0"]
    memory = codebook.current_memory(latent, a[f"{prefix}lat_memory_before" if state else f"{prefix}memory0"])
    value, (to_kernel, to_latent) = value_and_gradients(
        lambda w, p: codebook.quantize(w, p, memory, tf.constant(learns)),
        a[f"{prefix}{state}w"],
        latent,
        upstream=a[f"{prefix}{state}g"],
    )
    index = codebook.indices(tf.constant(a[f"{prefix}{state}w"]), memory)

    np.testing.assert_array_equal(index, a[f"{prefix}{state}index"])
    if state:
        np.testing.assert_array_equal(memory, a[f"{prefix}lat_memory_after"])
    step = f"{prefix}{state}s25_" if learns else f"{prefix}{state}"
    assert_close(value, a[f"{step}out"])
    assert_close(to_kernel, a[f"{step}dw"])
    if learns:
        assert_close(to_latent, a[f"{step}dpatterns"])
    else:
        np.testing.assert_array_equal(to_latent, np.zeros_like(latent))


@BITS
def test_refine_keeps_and_replaces_what_the_authors_do(golden, bits):
    a, prefix = golden("snn_binarize"), f"b{bits}_"
    for before, kept_rows, replaced in [
        (a[f"{prefix}dup_patterns"], a[f"{prefix}dup_kept_rows"], a[f"{prefix}dup_num_replaced"]),
        (a[f"{prefix}lat_patterns"], None, a[f"{prefix}lat_s25_num_replaced"]),
    ]:
        after = codebook.refine(tf.constant(before), tf.constant([0, 1])).numpy()
        unchanged = (after == np.clip(before, -3, 3)).all(1)
        assert (~unchanged).sum() == replaced
        if kept_rows is not None:
            np.testing.assert_array_equal(np.flatnonzero(unchanged), kept_rows)
        else:
            np.testing.assert_array_equal(after[unchanged], a[f"{prefix}lat_s25_kept_rows_after"])
        assert len(set(codebook.pattern_numbers(after).numpy())) == 2**bits
    np.testing.assert_array_equal(
        codebook.pattern_numbers(a[f"{prefix}dup_patterns"]), a[f"{prefix}dup_bnum"]
    )


@BITS
def test_refine_leaves_a_fresh_codebook_alone(golden, bits):
    a = golden("snn_binarize")
    before = a[f"b{bits}_patterns0"]
    np.testing.assert_array_equal(
        codebook.refine(before, tf.constant([5, 6])), a[f"b{bits}_s25_patterns_after"]
    )


# Patterns and their layout


def test_all_patterns_are_numbered_by_their_signs():
    patterns = codebook.all_patterns()
    assert patterns.shape == (512, 9)
    assert [number_of(p) for p in patterns] == list(range(512))
    np.testing.assert_array_equal(codebook.pattern_numbers(patterns), np.arange(512))


def test_a_latent_zero_counts_as_negative_in_numbers():
    latent = np.zeros((1, 9), np.float32)
    latent[0, 3] = 1e-6
    np.testing.assert_array_equal(codebook.pattern_numbers(latent), [8])


@pytest.mark.parametrize("bits", range(1, 9))
def test_initial_patterns_differ(bits):
    patterns = codebook.initial_patterns(bits, seed=7)
    assert patterns.shape == (2**bits, 9)
    assert len({number_of(p) for p in patterns}) == 2**bits


def test_layout_of_slices_and_lookup():
    """Element e = 3·row + column belongs to `kernel[row, column]`; output channels run fastest."""
    kernel = np.arange(9 * 2 * 3, dtype=np.float32).reshape(3, 3, 2, 3)
    rows = codebook.slices(kernel).numpy()
    np.testing.assert_array_equal(rows[1 * 3 + 2], kernel[:, :, 1, 2].reshape(9))
    np.testing.assert_array_equal(codebook.lookup(rows, np.arange(6).reshape(2, 3)), kernel)


def test_memory_follows_signs_outside_the_dead_zone():
    latent = tf.constant([[0.5, -0.5, 1e-3, -1e-3, 9e-4, -9e-4, 0.0, 0.0, 3.0]])
    previous = tf.constant([[-1.0, 1, -1, 1, -1, 1, -1, 1, -1]])
    np.testing.assert_array_equal(
        codebook.current_memory(latent, previous), [[1, -1, 1, -1, -1, 1, -1, 1, 1]]
    )


# Assignment


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_indices_are_the_nearest_in_l2(bits, cin, cout, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(3, 3, cin, cout)).astype(np.float32)
    memory = codebook.initial_patterns(bits, seed=seed % 1000)
    index = codebook.indices(tf.constant(kernel), tf.constant(memory)).numpy()
    np.testing.assert_array_equal(index, brute_force_indices(kernel, memory))
    assert index.dtype == np.int32


def test_equally_near_patterns_give_the_first():
    memory = np.ones((4, 9), np.float32)
    assert (codebook.indices(tf.zeros((3, 3, 2, 2)), memory).numpy() == 0).all()


def test_assignment_is_one_matrix_product():
    """Nothing larger than `slices × patterns` is computed, in particular no `slices × patterns × 9`."""
    cin, cout, patterns = 24, 20, 32

    @tf.function
    def forward_and_backward(kernel, latent):
        with tf.GradientTape() as tape:
            tape.watch([kernel, latent])
            value = codebook.quantize(kernel, latent, tf.sign(latent), tf.constant(True))
        return tape.gradient(value, [kernel, latent])

    kernel, latent = tf.TensorSpec((3, 3, cin, cout)), tf.TensorSpec((patterns, 9))
    for function in (tf.function(codebook.indices), forward_and_backward):
        operations = function.get_concrete_function(kernel, latent).graph.get_operations()
        sizes = [tensor.shape.num_elements() for op in operations for tensor in op.outputs]
        assert max(size for size in sizes if size is not None) == cin * cout * patterns
        assert sum("MatMul" in op.type for op in operations) == 1


def test_gradient_of_the_latent_patterns_is_the_sum_over_their_slices(rng, value_and_gradients):
    kernel, upstream = rng.normal(size=(2, 3, 3, 4, 5)).astype(np.float32)
    latent = codebook.initial_patterns(3, seed=1)
    _, (to_kernel, to_latent) = value_and_gradients(
        lambda w, p: codebook.quantize(w, p, tf.constant(latent), tf.constant(True)),
        kernel,
        latent,
        upstream=upstream,
    )
    index = brute_force_indices(kernel, latent)
    expected = np.zeros((8, 9))
    for i, o in np.ndindex(4, 5):
        expected[index[i, o]] += upstream[:, :, i, o].reshape(9)
    np.testing.assert_allclose(to_latent, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(to_kernel, upstream * (np.abs(kernel) <= 1))


# Refinement


def check_refinement(before, after):
    numbers = [number_of(p) for p in before]
    assert len({number_of(p) for p in after}) == len(after)
    for row, number in enumerate(numbers):
        if number in numbers[:row]:
            assert set(np.unique(after[row])) <= {-1.0, 1.0}
            assert number_of(after[row]) not in numbers
        else:
            np.testing.assert_array_equal(after[row], np.clip(before[row], -3, 3))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_refine_replaces_later_duplicates_by_new_patterns(bits, seed, share):
    rng = np.random.default_rng(seed)
    before = rng.normal(0, 2, (2**bits, 9)).astype(np.float32)
    copies = rng.random(2**bits) < share
    before[copies] = np.abs(before[copies]) * np.sign(before[rng.integers(2**bits, size=copies.sum())])
    after = codebook.refine(tf.constant(before), tf.constant([seed % 97, 3])).numpy()
    check_refinement(before, after)


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_refine_where_all_rows_are_equal(bits):
    before = np.full((2**bits, 9), 5.0, np.float32)
    check_refinement(before, codebook.refine(tf.constant(before), tf.constant([0, 0])).numpy())


def test_refine_is_reproducible_and_depends_on_both_seeds():
    before = tf.ones((16, 9))
    draws = [codebook.refine(before, tf.constant(seed)).numpy() for seed in ([1, 2], [1, 2], [1, 3], [2, 2])]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], draws[3])


def test_replacements_are_spread_over_all_patterns():
    """256 draws of 15 patterns out of 511: every pattern turns up, none dominates."""
    draws = tf.function(codebook.refine)
    counts = sum(
        np.bincount(codebook.pattern_numbers(draws(tf.ones((16, 9)), tf.constant([0, i]))), minlength=512)
        for i in range(256)
    )
    expected = 256 * 15 / 511
    assert counts[511] == 256  # the survivor
    assert counts[:511].max() < 4 * expected
    assert (counts[:511] > 0).mean() > 0.98


# The constraint that runs refinement


def make_refinement(interval=3, bits=3, seed=0):
    patterns = codebook.initial_patterns(bits, seed)
    updates, memory = tf.Variable(0, dtype=tf.int64), tf.Variable(patterns)
    return codebook.Refinement(updates, memory, seed, interval), patterns


def test_refinement_counts_and_acts_on_the_interval():
    refinement, patterns = make_refinement(interval=3)
    duplicated = tf.constant(np.concatenate([patterns[:4], patterns[:4]])) * 5
    for update in range(1, 7):
        after = refinement(duplicated).numpy()
        assert int(refinement.updates) == update
        assert np.array_equal(after, duplicated.numpy()) == (update % 3 != 0)
        assert (np.abs(after).max() <= 3) == (update % 3 == 0)
        np.testing.assert_array_equal(refinement.memory, np.sign(after))


def test_refinement_keeps_the_memory_of_small_latents():
    refinement, patterns = make_refinement(interval=10)
    latent = np.where(patterns > 0, -1e-4, 1e-4).astype(np.float32)  # opposite, but in the dead zone
    latent[0] = -2 * patterns[0]
    refinement(tf.constant(latent))
    np.testing.assert_array_equal(refinement.memory[0], -patterns[0])
    np.testing.assert_array_equal(refinement.memory[1:], patterns[1:])


def test_refinement_is_the_same_in_a_graph():
    eager, patterns = make_refinement(interval=1)
    graph, _ = make_refinement(interval=1)
    traced = tf.function(graph)
    for _ in range(3):
        duplicated = tf.constant(np.tile(patterns[:1], (8, 1)))
        np.testing.assert_array_equal(eager(duplicated), traced(duplicated))
        np.testing.assert_array_equal(eager.memory, graph.memory)
