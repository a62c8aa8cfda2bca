"""What the weights of binary layers look like: the figures with which ReCU (ICCV 2021) argues.

`W1` is the latent kernel standardised per output channel to deviation 2√2 (`math.recu_standardize`), `Q(τ)`
the bound at which ReCU clamps it. Both are defined for the latent kernels of any method, so that methods can
be compared. Kernels are arrays `(kh, kw, cin, cout)`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bnn_tf import codebook, math
from bnn_tf._tensorflow import lq, tf
from bnn_tf.quantizers import ReCU, SubBit
from bnn_tf.transforms import is_binary_kernel, latent_value

REFERENCE_TAU = 0.99
"""τ for kernels that have none: ReCU's last, which leaves 2 % of a Laplace distribution outside."""

EDGES = np.linspace(-12.0, 12.0, 49)
"""Bins of histograms of W1; the outer ones also take what lies beyond."""


@dataclasses.dataclass(frozen=True)
class BinaryKernel:
    """The kernel of a binary layer at one moment.

    Args:
        name: Name of the layer.
        latent: Latent weights.
        signs: The ±1 that the layer convolves with, without scale.
        tau: τ of ReCU's clamp, or `REFERENCE_TAU`.
        patterns: Numbers (see `codebook.all_patterns`) of a sub-bit codebook's patterns; `None` without one.
    """

    name: str
    latent: np.ndarray
    signs: np.ndarray
    tau: float
    patterns: np.ndarray | None

    @property
    def has_slices(self) -> bool:
        """Whether it consists of 3×3 slices."""
        return self.signs.ndim == 4 and self.signs.shape[:2] == (3, 3)


def binary_kernels(model: tf.keras.Model) -> list[BinaryKernel]:
    """The kernels of all binary layers of a model, nested models included, in its order."""
    return [
        _snapshot(layer)
        for layer in model._flatten_layers()  # in order, which `submodules` is not
        if is_binary_kernel(getattr(layer, "kernel", None))
    ]


def _snapshot(layer: tf.keras.layers.Layer) -> BinaryKernel:
    quantizer = layer.kernel_quantizer
    with lq.context.quantized_scope(True):
        signs = np.where(layer.kernel.numpy() < 0, -1, 1).astype(np.int8)
    patterns = None
    if isinstance(quantizer, SubBit) and quantizer.codebook is not None:
        memory = codebook.current_memory(tf.convert_to_tensor(quantizer.codebook), quantizer.memory)
        patterns = codebook.pattern_numbers(memory).numpy()
    return BinaryKernel(
        name=layer.name,
        latent=latent_value(layer.kernel).numpy(),
        signs=signs,
        tau=float(quantizer.tau.numpy()) if isinstance(quantizer, ReCU) else REFERENCE_TAU,
        patterns=patterns,
    )


def standardized(latent: np.ndarray) -> np.ndarray:
    """W1: centred and divided per output channel so that its deviation is 2√2."""
    return math.recu_standardize(tf.convert_to_tensor(latent)).numpy()


def histogram(w1: np.ndarray) -> np.ndarray:
    """Weights per bin of `EDGES`, int64 `(48,)`; they add up to all weights."""
    inside = np.clip(w1, EDGES[0], EDGES[-1])
    return np.histogram(inside, EDGES)[0]


def bound(w1: np.ndarray, tau: float) -> float:
    """`Q(τ) = -mean|W1| · ln(2 - 2τ)`."""
    return float(math.recu_bound(tf.convert_to_tensor(w1), tau))


def dead_share(w1: np.ndarray, tau: float) -> float:
    """Share of weights outside the clamp, `|W1| > Q(τ)`: they get no gradient from it."""
    return float(np.mean(np.abs(w1) > bound(w1, tau)))


def quantization_error(w1: np.ndarray, tau: float) -> float:
    """Energy that the best scale per output channel leaves of the clamped kernel, as a share of all energy.

    `mean((|W2| - α_o)²) / mean(W1²)` with `W2 = clip(W1, -Q(τ), Q(τ))` and `α_o = mean|W2|` per output
    channel. The smaller τ, the nearer W2 is to its signs.
    """
    magnitude = np.minimum(np.abs(w1), bound(w1, tau))
    alpha = magnitude.mean(axis=tuple(range(w1.ndim - 1)))
    return float(np.mean((magnitude - alpha) ** 2) / np.mean(w1**2))


def clamped_entropy(w1: np.ndarray, tau: float) -> float:
    """Entropy in bits of the clamped kernel in bins of width 0.1: the variety that the clamp leaves."""
    limit = bound(w1, tau)
    bins = np.round(10 * np.clip(w1, -limit, limit)).astype(np.int64)
    return entropy(np.bincount((bins - bins.min()).reshape(-1)))


def entropy(counts: np.ndarray | Sequence[int]) -> float:
    """Entropy `-Σ p log2 p` in bits of a distribution given as counts; 0 for no counts at all."""
    counts = np.asarray(counts, np.float64)
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(max(-np.sum(p * np.log2(p)), 0.0))


def sign_entropy(signs: np.ndarray) -> float:
    """Bits of information per binary weight of a layer: 1 where +1 and -1 are equally frequent."""
    positive = int(np.count_nonzero(signs > 0))
    return entropy([positive, signs.size - positive])


def pattern_counts(signs: np.ndarray) -> np.ndarray:
    """How many 3×3 slices show each of the 512 patterns, `(512,)`; see `codebook.all_patterns`."""
    numbers = (signs.reshape(codebook.SLICE, -1) > 0).T @ 2 ** np.arange(codebook.SLICE)
    return np.bincount(numbers, minlength=2**codebook.SLICE)
