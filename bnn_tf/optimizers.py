"""Optimizers with PyTorch's arithmetic that carry gradient transforms.

They are legacy Keras optimizers, as Larq's are (so `larq.optimizers.CaseOptimizer` takes them), and
differ from Keras' own where the papers' PyTorch code does: see each class. Gradients reach the
transforms summed over replicas and, under a loss-scale optimizer, unscaled. The transforms' state is
part of the optimizer's weights and of `tf.train.Checkpoint`. Of a saved model's formats only HDF5 keeps
it: Keras stores no legacy optimizer's state in `.keras` files and does not load it from SavedModels.

Arguments that clip (`clipnorm`, `global_clipnorm`, `clipvalue`) bound the gradients of the loss, before any
transform scales them or adds weight decay to them, as PyTorch's `clip_grad_norm_` ahead of a step does.

The latent patterns of sub-bit networks are trained on every 25th step only. PyTorch passes over parameters
without a gradient, and so it is here: on the other steps neither a pattern nor its momentum or moments
change, it does not decay, and the step does not count in Adam's bias correction.
"""

import numbers
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from bnn_tf import codebook
from bnn_tf._tensorflow import tf
from bnn_tf.transforms import Pairs, Transform, deserialize, serialize
from bnn_tf.values import NotNegative, Range, Share, check

_serializable = tf.keras.utils.register_keras_serializable(package="bnn_tf")


class _Transforming(tf.keras.optimizers.legacy.Optimizer):
    """A legacy optimizer that applies, tracks and serialises transforms."""

    _HAS_AGGREGATE_GRAD = True

    def _carry(self, transforms: Sequence[Transform | dict[str, Any]]) -> None:
        self._transforms = tuple(deserialize(transform) for transform in transforms)
        for index, transform in enumerate(self._transforms):
            self._track_trackable(transform, name=f"transform_{index}")

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transforms, in the order in which they are applied."""
        return self._transforms

    @property
    def weights(self) -> list[tf.Variable]:
        """The optimizer's variables, then its transforms'."""
        return [*super().weights, *(v for transform in self._transforms for v in transform.variables)]

    def variables(self) -> list[tf.Variable]:
        """The same as `weights`."""
        return self.weights

    def _create_all_weights(self, var_list: list[tf.Variable]) -> None:
        super()._create_all_weights(var_list)
        for transform in self._transforms:
            transform.build(var_list)

    def _transform_gradients(self, grads_and_vars: Pairs) -> Pairs:
        grads_and_vars = super()._transform_gradients(grads_and_vars)  # which clips them
        for transform in self._transforms:
            grads_and_vars = transform(grads_and_vars)
        return grads_and_vars

    def get_config(self) -> dict[str, Any]:
        """The optimizer's configuration, transforms included."""
        return {**super().get_config(), "transforms": [serialize(t) for t in self._transforms]}


def _check(what: str, value: Any, kind: Any) -> None:
    """Refuses a number that does not fit; Keras takes schedules, tensors and functions in its place, too."""
    if isinstance(value, numbers.Real):
        check(what, value, kind)


@_serializable
class SGD(_Transforming):
    """Stochastic gradient descent with PyTorch's momentum.

    `v ← μ·v + g; w ← w - η·v`, with Nesterov `w ← w - η·(g + μ·v)`. Keras' SGD puts the rate inside the
    velocity (`v ← μ·v - η·g`), which is the same only while the rate is constant: with a schedule its
    past gradients keep their old rates.

    Args:
        learning_rate: η, a float or a Keras schedule of the step.
        momentum: μ.
        nesterov: Look ahead by one momentum step.
        transforms: Gradient transforms, applied in order before the momentum.
        name: Name of the optimizer.
        **kwargs: Arguments of the legacy Keras optimizers (`clipnorm`, …).

    Raises:
        UsageError: a number is not finite or out of its range.

    Example:
        >>> optimizer = SGD(0.1, momentum=0.9)
        >>> weight = tf.Variable(1.0)
        >>> for _ in range(2):
        ...     _ = optimizer.apply_gradients([(tf.constant(1.0), weight)])
        >>> round(float(weight), 4)  # 1 - 0.1 - 0.1 · (1 + 0.9)
        0.71
    """

    def __init__(
        self,
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        transforms: Sequence[Transform | dict[str, Any]] = (),
        name: str = "SGD",
        **kwargs: Any,
    ) -> None:
        _check("learning_rate", kwargs.get("lr", learning_rate), NotNegative)
        _check("momentum", momentum, Annotated[float, Range(least=0, most=1)])
        super().__init__(name, **kwargs)
        self._carry(transforms)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("momentum", momentum)
        self.nesterov = nesterov

    def _create_slots(self, var_list: list[tf.Variable]) -> None:
        for variable in var_list:
            self.add_slot(variable, "momentum")

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: dict[Any, Any] | None = None
    ) -> tf.Operation:
        rate = self._decayed_lr(var.dtype.base_dtype)
        momentum = tf.cast(self._get_hyper("momentum"), grad.dtype)
        slot = self.get_slot(var, "momentum")
        if not codebook.is_codebook(var):
            return tf.raw_ops.ResourceApplyMomentum(
                var=var.handle,
                accum=slot.handle,
                lr=rate,
                grad=grad,
                momentum=momentum,
                use_locking=self._use_locking,
                use_nesterov=self.nesterov,
            )
        due = var.constraint.due()
        velocity = tf.where(due, momentum * slot + grad, slot)
        step = grad + momentum * velocity if self.nesterov else velocity
        with tf.control_dependencies([slot.assign(velocity)]):
            return var.assign_sub(tf.where(due, rate * step, tf.zeros_like(step)))

    def _resource_apply_sparse(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor, apply_state: Any = None
    ) -> tf.Operation:
        dense = tf.scatter_nd(indices[:, None], grad, tf.shape(var, out_type=indices.dtype))
        return self._resource_apply_dense(dense, var, apply_state)

    def get_config(self) -> dict[str, Any]:
        """The optimizer's configuration."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._initial_decay,
            "momentum": self._serialize_hyperparameter("momentum"),
            "nesterov": self.nesterov,
        }


@_serializable
class Adam(_Transforming, tf.keras.optimizers.legacy.Adam):
    """Adam with PyTorch's ε: `w ← w - η · m̂ / (√v̂ + ε)`, bias-corrected `m̂`, `v̂`.

    Keras adds its ε before the bias correction of v, which makes it larger in the first steps.

    Args:
        learning_rate: η, a float or a Keras schedule of the step.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: ε, PyTorch's default.
        transforms: Gradient transforms, applied in order before the moments.
        name: Name of the optimizer.
        **kwargs: Arguments of the legacy Keras optimizers (`clipnorm`, …).

    Raises:
        UsageError: a number is not finite or out of its range.

    Example:
        >>> from bnn_tf import transforms
        >>> optimizer = Adam(0.1, transforms=[transforms.WeightDecay(1e-4)])
        >>> weight = tf.Variable(1.0)
        >>> _ = optimizer.apply_gradients([(tf.constant(4.0), weight)])
        >>> round(float(weight), 4)  # the first step has the size of the rate
        0.9
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        transforms: Sequence[Transform | dict[str, Any]] = (),
        name: str = "Adam",
        **kwargs: Any,
    ) -> None:
        _check("learning_rate", kwargs.get("lr", learning_rate), NotNegative)
        _check("beta_1", beta_1, Share)
        _check("beta_2", beta_2, Share)
        _check("epsilon", epsilon, NotNegative)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **kwargs)
        self._carry(transforms)

    def _prepare_local(self, var_device: str, var_dtype: tf.DType, apply_state: dict[Any, Any]) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        # Keras divides by √v + ε and multiplies by √(1 - β₂ᵗ); so this is PyTorch's √v̂ + ε.
        state = apply_state[(var_device, var_dtype)]
        state["epsilon"] = state["epsilon"] * tf.sqrt(1 - state["beta_2_power"])

    def _create_slots(self, var_list: list[tf.Variable]) -> None:
        super()._create_slots(var_list)
        for variable in var_list:
            if codebook.is_codebook(variable):
                self.add_slot(variable, "updates", shape=())

    def _resource_apply_dense(
        self, grad: tf.Tensor, var: tf.Variable, apply_state: dict[Any, Any] | None = None
    ) -> tf.Operation:
        if not codebook.is_codebook(var):
            return super()._resource_apply_dense(grad, var, apply_state)
        due = var.constraint.due()
        m, v, updates = (self.get_slot(var, name) for name in ("m", "v", "updates"))
        beta_1, beta_2 = (self._get_hyper(name, grad.dtype) for name in ("beta_1", "beta_2"))
        count = updates + tf.cast(due, updates.dtype)
        first = tf.where(due, beta_1 * m + (1 - beta_1) * grad, m)
        second = tf.where(due, beta_2 * v + (1 - beta_2) * tf.square(grad), v)
        mean = first / (1 - tf.pow(beta_1, count))
        root = tf.sqrt(second / (1 - tf.pow(beta_2, count)))
        # On the first steps nothing is counted yet, and the quotients are no numbers.
        step = tf.where(due, self._decayed_lr(grad.dtype) * mean / (root + self.epsilon), tf.zeros_like(grad))
        with tf.control_dependencies([m.assign(first), v.assign(second), updates.assign(count)]):
            return var.assign_sub(step)


OPTIMIZERS: dict[str, Callable[..., tf.keras.optimizers.legacy.Optimizer]] = {"sgd": SGD, "adam": Adam}
