"""Optimizers against PyTorch's arithmetic, written out in NumPy; wrappers; and configuration."""

import numpy as np
import pytest

from bnn_tf import optimizers, quantizers, transforms
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError

SHAPE = (3, 4)


def torch_sgd(w, gradients, rates, momentum, nesterov, decay):
    """torch.optim.SGD as its documentation states it (dampening 0)."""
    w, buffer = w.astype(float), None
    for g, rate in zip(gradients.astype(float), rates, strict=True):
        g = g + decay * w
        if momentum:
            buffer = g.copy() if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        w = w - rate * g
    return w


def torch_adam(w, gradients, rates, betas, epsilon, decay):
    """torch.optim.Adam as its documentation states it."""
    w = w.astype(float)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(gradients.astype(float), rates, strict=True), start=1):
        g = g + decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - rate * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + epsilon)
    return w


@pytest.fixture
def start(rng):
    return rng.normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def gradients(rng):
    return rng.normal(size=(12, *SHAPE)).astype(np.float32)


RATES = 0.1 * np.array([1, 1, 1, 2, 2, 2, 0.1, 0.1, 0.1, 0.5, 0, 1])


def descend(optimizer, start, gradients, rates=None, graph=True):
    variable = tf.Variable(start)

    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    step = tf.function(step) if graph else step
    for index, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.learning_rate = rates[index]
        step(tf.constant(gradient))
    return variable.numpy()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_pytorchs_under_a_changing_rate(start, gradients, momentum, nesterov, decay, graph):
    optimizer = optimizers.SGD(1.0, momentum, nesterov, transforms=[transforms.WeightDecay(decay)])
    expected = torch_sgd(start, gradients, RATES, momentum, nesterov, decay)
    actual = descend(optimizer, start, gradients, RATES, graph)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_sgd_differs_from_keras_once_the_rate_changes(start, gradients):
    own, keras = (
        descend(optimizer, start, gradients, RATES)
        for optimizer in (optimizers.SGD(1.0, 0.9), tf.keras.optimizers.legacy.SGD(1.0, 0.9))
    )
    assert np.abs(own - keras).max() > 0.01
    own, keras = (
        descend(optimizer, start, gradients)
        for optimizer in (optimizers.SGD(0.1, 0.9), tf.keras.optimizers.legacy.SGD(0.1, 0.9))
    )
    np.testing.assert_allclose(own, keras, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("epsilon", [1e-8, 0.3])
def test_adam_is_pytorchs(start, gradients, epsilon, decay, graph):
    optimizer = optimizers.Adam(1.0, 0.8, 0.95, epsilon, transforms=[transforms.WeightDecay(decay)])
    expected = torch_adam(start, gradients, RATES, (0.8, 0.95), epsilon, decay)
    actual = descend(optimizer, start, gradients, RATES, graph)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_adam_differs_from_keras_where_epsilon_counts(start, gradients):
    own, keras = (
        descend(cls(0.1, epsilon=0.3), start, gradients)
        for cls in (optimizers.Adam, tf.keras.optimizers.legacy.Adam)
    )
    assert np.abs(own - keras).max() > 0.01


def test_defaults_are_pytorchs():
    assert optimizers.Adam().epsilon == 1e-8
    assert optimizers.SGD().get_config()["momentum"] == 0.0


# Latent patterns, which have a gradient on every third step here


def patterns_after(optimizer, gradients):
    """A codebook's latent patterns at the start and after each step."""
    quantizer = quantizers.SubBit(bits=3, seed=1, interval=3)
    latent, history = quantizer.codebook, [quantizer.codebook.numpy()]

    @tf.function
    def step(gradient):
        optimizer.apply_gradients([(gradient, latent)])

    for index, gradient in enumerate(gradients, start=1):
        step(tf.constant(gradient * (index % 3 == 0)))
        history.append(latent.numpy())
    return np.array(history)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_counts_the_steps_that_train_latent_patterns(decay):
    gradients = np.random.default_rng(0).normal(size=(11, 8, 9)).astype(np.float32)
    optimizer = optimizers.Adam(0.01, transforms=[transforms.WeightDecay(decay)])
    history = patterns_after(optimizer, gradients)
    np.testing.assert_array_equal(history[[1, 2, 4, 5, 7, 8, 10]], history[[0, 0, 3, 3, 6, 6, 9]])
    # Adam's first step has the size of the rate (with all steps counted it would be .59 of it).
    undecayed = gradients[2] + decay * history[0]
    np.testing.assert_allclose(history[3] - history[0], -0.01 * np.sign(undecayed), rtol=1e-4)
    for trained in (1, 2, 3):
        expected = torch_adam(
            history[0], gradients[2::3][:trained], [0.01] * trained, (0.9, 0.999), 1e-8, decay
        )
        np.testing.assert_allclose(history[3 * trained], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_of_latent_patterns_rests_between_the_steps_that_train_them(nesterov):
    gradients = np.random.default_rng(0).normal(size=(11, 8, 9)).astype(np.float32)
    optimizer = optimizers.SGD(0.01, 0.9, nesterov, transforms=[transforms.WeightDecay(0.1)])
    history = patterns_after(optimizer, gradients)
    expected = torch_sgd(history[0], gradients[2::3], [0.01] * 3, 0.9, nesterov, 0.1)
    np.testing.assert_array_equal(history[11], history[9])
    np.testing.assert_allclose(history[9], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: optimizers.SGD(0.1, 0.9), lambda: optimizers.Adam(0.1)])
def test_sparse_gradients_update_as_dense_ones(start, make):
    def final(sparse):
        table, optimizer = tf.Variable(start), make()
        for rows in ([0, 2, 0], [1, 1, 2]):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(table, rows) ** 3)
            gradient = tape.gradient(loss, table)
            assert isinstance(gradient, tf.IndexedSlices)
            optimizer.apply_gradients([(gradient if sparse else tf.convert_to_tensor(gradient), table)])
        return table.numpy()

    np.testing.assert_allclose(final(sparse=True), final(sparse=False), rtol=1e-6)


def test_schedules_of_the_step_and_clipping(start, gradients):
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([3, 7], [0.5, 0.1, 0.02])
    optimizer = optimizers.SGD(schedule, momentum=0.9, clipvalue=0.5)
    rates = [schedule(t).numpy() for t in range(len(gradients))]
    expected = torch_sgd(start, np.clip(gradients, -0.5, 0.5), rates, 0.9, False, 0.0)
    np.testing.assert_allclose(descend(optimizer, start, gradients), expected, rtol=1e-5, atol=1e-5)


# Clipping, which comes before the transforms, as `clip_grad_norm_` before `step`


def after_one_step(optimizer, weights, gradients):
    variables = [tf.Variable(weight) for weight in weights]
    optimizer.apply_gradients(list(zip(map(tf.constant, gradients), variables, strict=True)))
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_weight_decay_is_no_part_of_what_is_clipped(clip):
    """(0, 1) is no longer than 1 and stays; with the decay of (10, 0) it is (10, 1)."""
    optimizer = optimizers.SGD(1.0, transforms=[transforms.WeightDecay(1.0)], **{clip: 1.0})
    (weight,) = after_one_step(optimizer, [[10.0, 0.0]], [[0.0, 1.0]])
    np.testing.assert_allclose(weight, [0, -1], atol=1e-6)


def test_the_norm_of_all_gradients_together():
    """(3, 0) and (4) have norm 5: they become (0.6, 0) and (0.8). Half of each weight comes on top."""
    optimizer = optimizers.SGD(1.0, transforms=[transforms.WeightDecay(0.5)], global_clipnorm=1.0)
    pair, single = after_one_step(optimizer, [[10.0, 2.0], [6.0]], [[3.0, 0.0], [4.0]])
    np.testing.assert_allclose(pair, [10 - 5.6, 2 - 1], rtol=1e-6)
    np.testing.assert_allclose(single, [6 - 3.8], rtol=1e-6)


def test_adam_takes_clipped_gradients_with_their_decay():
    """(0, 8) becomes (0, 0.5), with the decay (5, 0.5); the first moments are a tenth of that."""
    optimizer, variable = (
        optimizers.Adam(0.1, transforms=[transforms.WeightDecay(0.5)], global_clipnorm=0.5),
        tf.Variable([10.0, 0.0]),
    )
    optimizer.apply_gradients([(tf.constant([0.0, 8.0]), variable)])
    np.testing.assert_allclose(optimizer.get_slot(variable, "m"), [0.5, 0.05], rtol=1e-5)
    np.testing.assert_allclose(variable, [9.9, -0.1], rtol=1e-5)


def test_gradients_scaled_by_the_kernels_are_not_clipped_again():
    """OvSW's scale makes a short gradient δ times as long as the weights."""
    kernel, _ = make_pairs(np.random.default_rng(3))
    start = transforms.latent_value(kernel).numpy()
    gradient = np.ones_like(start)
    optimizer = optimizers.SGD(1.0, transforms=[transforms.AdaptiveGradientScale(0.5)], global_clipnorm=1e-6)
    optimizer.apply_gradients([(tf.constant(gradient), kernel)])
    step = start - transforms.latent_value(kernel).numpy()
    clipped = tf.constant(1e-6 * gradient / np.linalg.norm(gradient))
    np.testing.assert_allclose(step, transforms.adaptive_gradient_scale(clipped, start, 0.5), rtol=1e-3)
    assert np.linalg.norm(step) > 0.1


# Configuration


ALL_TRANSFORMS = (
    transforms.AdaptiveGradientScale(0.04),
    transforms.SilenceDecay(9e-4, momentum=0.9),
    transforms.WeightDecay(5e-4, only="kernels"),
)


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(0.25, 0.5, True, ALL_TRANSFORMS, clipnorm=1.0),
        optimizers.SGD(tf.keras.optimizers.schedules.CosineDecay(0.5, 100), transforms=ALL_TRANSFORMS),
        optimizers.Adam(0.25, 0.5, 0.75, 1e-4, ALL_TRANSFORMS, name="Named"),
    ],
)
def test_configuration_round_trip(optimizer):
    config = tf.keras.optimizers.serialize(optimizer)
    again = tf.keras.optimizers.deserialize(config)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    for old, new in zip(optimizer.transforms, again.transforms, strict=True):
        assert type(old) is type(new)
        assert old.get_config() == new.get_config()
        assert old is not new


def test_configuration_holds_the_present_rate(start, gradients):
    optimizer = optimizers.SGD(0.5, 0.9)
    descend(optimizer, start, gradients, np.full(12, 0.25))
    assert optimizers.SGD.from_config(optimizer.get_config()).get_config()["learning_rate"] == 0.25


# Wrapped by others


def make_pairs(rng):
    kernel = lq.quantized_variable.QuantizedVariable.from_variable(
        tf.Variable(rng.normal(size=(3, 3, 2, 4)).astype(np.float32)), quantizer=quantizers.IdentitySign()
    )
    return kernel, tf.Variable(rng.normal(size=4).astype(np.float32))


def final_values(make_optimizer):
    rng = np.random.default_rng(1)
    variables, optimizer = make_pairs(rng), make_optimizer()

    @tf.function
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for _ in range(5):
        step([tf.constant(rng.normal(0, 0.01, v.shape).astype(np.float32)) for v in variables])
    return [tf.convert_to_tensor(v).numpy() for v in variables], optimizer


def ovsw_sgd():
    return optimizers.SGD(
        0.1,
        0.9,
        transforms=[
            transforms.AdaptiveGradientScale(0.04),
            transforms.SilenceDecay(0.1),
            transforms.WeightDecay(0.01),
        ],
    )


def test_member_of_larqs_case_optimizer():
    expected, alone = final_values(ovsw_sgd)
    actual, case = final_values(
        lambda: lq.optimizers.CaseOptimizer(
            (lq.optimizers.Bop.is_binary_variable, ovsw_sgd()), default_optimizer=ovsw_sgd()
        )
    )
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    binary, default = case.optimizers
    assert len(binary.transforms[1].variables) == 2
    assert len(default.transforms[1].variables) == 0
    assert len(case.weights) == len(alone.weights) + 1  # each member counts its own steps


def test_bop_beside_ours_for_the_rest():
    actual, _ = final_values(
        lambda: lq.optimizers.CaseOptimizer(
            (lq.optimizers.Bop.is_binary_variable, lq.optimizers.Bop(threshold=1e-9, gamma=0.5)),
            default_optimizer=ovsw_sgd(),
        )
    )
    expected, _ = final_values(ovsw_sgd)
    np.testing.assert_array_equal(actual[1], expected[1])


class Watch(transforms.Transform):
    """Keeps what it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, pairs):
        pairs = list(pairs)
        self.seen += [g.numpy() for g, _ in pairs]
        return pairs

    def get_config(self):
        return {}


def test_loss_scaling_shows_transforms_unscaled_gradients():
    watch = Watch()
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(
        optimizers.SGD(0.1, transforms=[watch]), dynamic=False, initial_scale=1024
    )
    variable = tf.Variable([1.0, -2.0])
    optimizer.minimize(lambda: tf.reduce_sum(variable**2), [variable])
    np.testing.assert_allclose(watch.seen, [[2.0, -4.0]])
    with tf.GradientTape() as tape:
        loss = optimizer.get_scaled_loss(tf.reduce_sum(variable**2))
    scaled = tape.gradient(loss, [variable])
    np.testing.assert_allclose(scaled[0], 1024 * 2 * variable.numpy())
    optimizer.apply_gradients(zip(optimizer.get_unscaled_gradients(scaled), [variable], strict=True))
    np.testing.assert_allclose(watch.seen[1], [2 * 0.8, -4 * 0.8])


def test_loss_scaling_skips_overflowing_steps_entirely():
    """Neither weights nor trackers move on a step whose gradients are not finite."""
    kernel = make_pairs(np.random.default_rng(0))[0]
    inner = ovsw_sgd()
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(inner, dynamic=True, initial_scale=1024)

    @tf.function
    def step(scaled_gradient):
        optimizer.get_scaled_loss(tf.constant(0.0))  # Keras warns where it is not called
        optimizer.apply_gradients([(optimizer.get_unscaled_gradients([scaled_gradient])[0], kernel)])

    def state():
        return [w.numpy() for w in (kernel.latent_variable, *inner.weights) if w is not inner.iterations]

    step(tf.ones(kernel.shape))
    before = state()
    step(tf.fill(kernel.shape, np.inf))
    for old, now in zip(before, state(), strict=True):
        np.testing.assert_array_equal(old, now)
    assert float(optimizer.loss_scale) == 512


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(
    ("optimizer", "argument"),
    [
        (optimizers.SGD, "learning_rate"),
        (optimizers.SGD, "momentum"),
        (optimizers.Adam, "learning_rate"),
        (optimizers.Adam, "beta_1"),
        (optimizers.Adam, "beta_2"),
        (optimizers.Adam, "epsilon"),
    ],
)
def test_nonsense_is_refused(optimizer, argument, value):
    with pytest.raises(UsageError, match=f"{argument} must be a number at least 0.*, not {value}"):
        optimizer(**{argument: value})


def test_schedules_and_tensors_are_taken_as_rates():
    for rate in (tf.keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5), tf.constant(0.1), lambda: 0.1):
        optimizers.SGD(rate)
        optimizers.Adam(rate)
