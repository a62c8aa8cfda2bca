"""Bi-Real Net (ECCV 2018, https://arxiv.org/abs/1808.00278)."""

import dataclasses
from typing import ClassVar

from bnn_tf.methods.base import Method
from bnn_tf.quantizers import ApproxSign, ScaledSign


@dataclasses.dataclass(frozen=True)
class BiReal(Method):
    """Approximate sign for activations, `s_o · sign(W)` for kernels.

    Args:
        clip_value: The kernel's gradient passes where |W| is at most this; `None` passes all of it, as
            the paper's own multi-step training does.
    """

    clip_value: float | None = 1.0
    name: ClassVar[str] = "bireal"

    def input_quantizer(self) -> ApproxSign:
        """The approximate sign."""
        return ApproxSign()

    def kernel_quantizer(self, kernel_size: int, name: str) -> ScaledSign:
        """The sign scaled by the mean magnitude."""
        return ScaledSign(clip_value=self.clip_value)
