"""Bi-Real Net (ECCV 2018, https://arxiv.org/abs/1808.00278)."""

import dataclasses
from typing import ClassVar

from bnn_tf._tensorflow import lq
from bnn_tf.methods.base import Method
from bnn_tf.quantizers import ApproxSign, ScaledSign


@dataclasses.dataclass(frozen=True)
class BiReal(Method):
    """Approximate sign for activations, `s_o · sign(W)` for kernels, `s_o` the mean |W| per output channel.

    Args:
        clip_value: The kernel's gradient passes where |W| is at most this; `None` passes all of it, as
            the paper's own multi-step training does.
        scaled: Whether kernels carry `s_o`; where not, BatchNorm has to absorb it, as in the last step of
            the multi-step training.
    """

    clip_value: float | None = 1.0
    scaled: bool = True
    name: ClassVar[str] = "bireal"

    def input_quantizer(self) -> ApproxSign:
        """The approximate sign."""
        return ApproxSign()

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The sign, scaled by the mean magnitude unless that is switched off."""
        sign = ScaledSign if self.scaled else lq.quantizers.SteSign
        return sign(clip_value=self.clip_value)
