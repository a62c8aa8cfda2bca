"""Sub-bit neural networks, SNN (ICCV 2021, https://arxiv.org/abs/2110.09195)."""

import dataclasses
import logging
import zlib
from typing import Any, ClassVar

from bnn_tf import quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.methods.base import Method

log = logging.getLogger(__name__)


def layer_seed(seed: int, name: str) -> int:
    """A seed of its own for the layer called `name`, the same in every process."""
    return zlib.crc32(f"{seed}/{name}".encode())


@dataclasses.dataclass(frozen=True)
class SubBit(Method):
    """Each 3×3 slice of a kernel is one of the layer's `2^bits` learned patterns.

    Kernels of other sizes stay at one bit per weight.

    Args:
        bits: Bits per slice of nine weights: 4, 5, 6 (0.44, 0.56, 0.67 bit per weight), 9 for a plain
            binary network.
        seed: Seed of the codebooks; each layer derives its own from its name.
        interval: Training steps between two that train the codebooks; 25 in the paper. A pattern starts at
            ±1 and moves by a few learning rates each time, so that short trainings need a smaller one for
            a codebook to change at all.
    """

    bits: int = 5
    seed: int = 0
    interval: int = 25
    name: ClassVar[str] = "subbit"

    def __post_init__(self) -> None:
        """Checks bits and interval."""
        if not 1 <= self.bits <= 9:
            raise ValueError(f"bits must be between 1 and 9, not {self.bits}")
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1, not {self.interval}")

    @property
    def kernel_initializer(self) -> Any:
        """Uniform in [0, 0.001), as the authors start."""
        return tf.keras.initializers.RandomUniform(0.0, 0.001)

    def input_quantizer(self) -> quantizers.ApproxSign:
        """The approximate sign."""
        return quantizers.ApproxSign()

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The codebook for 3×3 kernels, plain scaled signs for others."""
        if kernel_size == 3:
            seed = layer_seed(self.seed, name)
            return quantizers.SubBit(bits=self.bits, seed=seed, interval=self.interval)
        log.info("%s: a %d×%d kernel has no codebook and stays at 1 bit", name, kernel_size, kernel_size)
        return quantizers.ScaledSign()
