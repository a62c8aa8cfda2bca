"""What compressing a model did to each binary convolution."""

from dataclasses import asdict, dataclass
from typing import Any

NO_SUB_BIT = (
    "no binary convolution got smaller: the file holds the .tflite as it is, "
    "because no 3x3 kernel is limited to a codebook"
)


@dataclass(frozen=True)
class LayerReport:
    """One bit-packed filter constant.

    Attributes:
        name: The convolution's output tensor.
        shape: The filter's shape in the file, `(cout, kh, kw, words of 32 input channels)`.
        method: `packed`, `rans` or `raw` (left as it was).
        patterns: Distinct 3x3 patterns; 0 where there are no 3x3 slices.
        bits: Bits of an index into that many patterns (9: no codebook limits this layer).
        weights: Binary weights, without the padding to 32 input channels.
        raw_bytes: Size in the `.tflite`.
        coded_bytes: Size in the `.snn`, headers and codebook included.
        codebook_bytes: The codebook's share of `coded_bytes`.
    """

    name: str
    shape: tuple[int, ...]
    method: str
    patterns: int
    bits: int
    weights: int
    raw_bytes: int
    coded_bytes: int
    codebook_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes in the `.snn`."""
        return 8 * self.coded_bytes / self.weights


@dataclass(frozen=True)
class SubBitReport:
    """One compressed model.

    Attributes:
        layers: Every `LceBconv2d` filter, in the order in which they stand in the file.
        original_bytes: Size of the `.tflite`.
        compressed_bytes: Size of the `.snn`.
    """

    layers: tuple[LayerReport, ...]
    original_bytes: int
    compressed_bytes: int

    @property
    def raw_bytes(self) -> int:
        """What the binary weights take in the `.tflite`."""
        return sum(layer.raw_bytes for layer in self.layers)

    @property
    def coded_bytes(self) -> int:
        """What the binary weights take in the `.snn`, headers and codebooks included."""
        return sum(layer.coded_bytes for layer in self.layers)

    @property
    def note(self) -> str:
        """What the user should know; empty if there is nothing."""
        return "" if any(layer.method != "raw" for layer in self.layers) else NO_SUB_BIT

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values that `json.dump` can write."""
        layers = [
            {**asdict(layer), "shape": list(layer.shape), "bits_per_weight": layer.bits_per_weight}
            for layer in self.layers
        ]
        return {
            "original_bytes": self.original_bytes,
            "compressed_bytes": self.compressed_bytes,
            "binary_raw_bytes": self.raw_bytes,
            "binary_coded_bytes": self.coded_bytes,
            "note": self.note,
            "layers": layers,
        }
