"""What a method is: how a convolution is binarized and what training does about it."""

import dataclasses
import os
from typing import Any, ClassVar

from bnn_tf import transforms
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import unknown
from bnn_tf.layers import HardTanh
from bnn_tf.optimizers import OPTIMIZERS


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method as a value: its fields are its hyper-parameters.

    Subclasses say which quantizers a binary convolution has, which transforms the gradients pass and
    which callbacks training needs. Architectures only call `binary_conv`.
    """

    name: ClassVar[str]
    # An initializer's name, so that every layer makes its own.
    kernel_initializer: ClassVar[Any] = "glorot_normal"

    def activation(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """What comes before the convolution and is no quantizer; nothing by default."""
        return x

    def clip(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """What bounds the activations in networks that do that between their layers; hard-tanh by default."""
        return HardTanh(name=name)(x)

    def input_quantizer(self) -> lq.quantizers.Quantizer | None:
        """A new quantizer of activations, or None for real ones."""
        raise NotImplementedError

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer | None:
        """A new quantizer for the kernel of the layer called `name`, or None for a real one."""
        raise NotImplementedError

    def output_scale(self, x: tf.Tensor, conv: tf.keras.layers.Layer) -> tf.Tensor:
        """Scales the output `x` of the built layer `conv`; nothing by default."""
        return x

    def binary_conv(
        self,
        x: tf.Tensor,
        filters: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        pad_values: float = 0.0,
        activate: bool = True,
        name: str,
    ) -> tf.Tensor:
        """The method's convolution without bias, `same` padding: NHWC to NHWC.

        Args:
            x: Activations `(n, h, w, c)`, not yet binarized.
            filters: Output channels.
            kernel_size: Height and width of the kernel.
            strides: Stride in both directions.
            pad_values: What `same` pads the binarized activations with: 0 (the papers), or 1, which
                Larq Compute Engine runs faster.
            activate: Whether `activation` comes first; not where the network's `clip` has done it.
            name: Name of the layer that holds the kernel; weights move between runs by it.
        """
        conv = lq.layers.QuantConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            pad_values=pad_values,
            use_bias=False,
            input_quantizer=self.input_quantizer(),
            kernel_quantizer=self.kernel_quantizer(kernel_size, name),
            kernel_initializer=self.kernel_initializer,
            name=name,
        )
        if activate:
            x = self.activation(x, f"{name}_activation")
        return self.output_scale(conv(x), conv)

    def transforms(self) -> tuple[transforms.Transform, ...]:
        """New gradient transforms of the method, in order."""
        return ()

    def optimizer(
        self,
        name: str = "sgd",
        *,
        weight_decay: float = 0.0,
        decay_only: str | None = None,
        **options: Any,
    ) -> tf.keras.optimizers.legacy.Optimizer:
        """An optimizer that applies the method's transforms, then coupled weight decay.

        Args:
            name: `"sgd"` or `"adam"`.
            weight_decay: λ of `transforms.WeightDecay`.
            decay_only: Which variables decay: `None` all, `"kernels"` only kernels.
            **options: `learning_rate`, and `momentum` or whatever else the optimizer takes.

        Raises:
            UsageError: there is no such optimizer.
        """
        if name not in OPTIMIZERS:
            raise unknown("optimizer", name, OPTIMIZERS)
        chain = self.transforms()
        if weight_decay:
            chain = (*chain, transforms.WeightDecay(weight_decay, only=decay_only))
        return OPTIMIZERS[name](transforms=chain, **options)

    def callbacks(
        self, epochs: int, log_dir: str | os.PathLike | None = None
    ) -> list[tf.keras.callbacks.Callback]:
        """New callbacks that `model.fit(epochs=epochs)` needs for the method; none by default.

        Args:
            epochs: Length of the training, for what moves from its start to its end.
            log_dir: Folder of TensorBoard's logs, for what the method measures.
        """
        return []

    def get_config(self) -> dict[str, Any]:
        """The method as plain values: its name and its hyper-parameters."""
        return {"name": self.name, **dataclasses.asdict(self)}
