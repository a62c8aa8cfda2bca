"""Prints how small `bnn-tf compress` makes a ReActResNet18 for ImageNet, against gzip and xz.

The weights are not trained: real parameters are random, and each binary kernel takes its 3x3 slices from a
random codebook of 2^b patterns, either equally often ("even") or as the nearest to Gaussian latent weights
("nearest", which uses some patterns a little more than others).

Usage: python scripts/benchmark_subbit_file.py
"""

import gzip
import lzma
import time

import numpy as np

import zoo
from bnn_tf._tensorflow import lq
from bnn_tf.subbit import SubBitReport, compress, expand

COLUMNS = (
    "use",
    "b",
    "tflite",
    "gzip -9",
    "xz -9",
    "snn",
    "snn+xz",
    "binary",
    "in snn",
    "share",
    "b/9",
    "expand",
)


def draw_patterns(rng: np.random.Generator, slices: int, bits: int, use: str) -> np.ndarray:
    """Returns one 9-bit pattern per slice."""
    book = rng.choice(512, 2**bits, replace=False)
    if use == "even":
        return rng.choice(book, slices)
    signs = 1.0 - 2.0 * (book >> np.arange(9)[:, None] & 1)
    return book[(rng.normal(size=(slices, 9)) @ signs).argmax(axis=1)]


def build(bits: int, use: str) -> bytes:
    """Returns the network as LCE's `.tflite`."""
    import larq_compute_engine

    rng = np.random.default_rng(bits)
    model = zoo.ReActResNet18(method="bireal")
    for layer in model.layers:
        if isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer is not None:
            _, _, cin, cout = layer.kernel.shape
            patterns = draw_patterns(rng, cin * cout, bits, use)
            signs = 1.0 - 2.0 * (patterns >> np.arange(9)[:, None] & 1)
            layer.kernel.assign(signs.reshape(3, 3, cin, cout))
    return larq_compute_engine.convert_keras_model(model)


def row(use: str, bits: int) -> tuple[list[str], SubBitReport]:
    """Returns the cells of one line of the table and the report behind them."""
    model = build(bits, use)
    data, report = compress(model)
    start = time.perf_counter()
    assert expand(data) == model
    seconds = time.perf_counter() - start
    sizes = [
        model,
        gzip.compress(model, 9),
        lzma.compress(model, preset=9),
        data,
        lzma.compress(data, preset=9),
    ]
    share = report.coded_bytes / report.raw_bytes
    cells = [use, str(bits), *(f"{len(size):,}" for size in sizes), f"{report.raw_bytes:,}"]
    return [*cells, f"{report.coded_bytes:,}", f"{share:.4f}", f"{bits / 9:.4f}", f"{seconds:.2f} s"], report


def main() -> None:
    """Prints the table, and the layers of the last network."""
    print(" | ".join(COLUMNS))
    for use in ("even", "nearest"):
        for bits in (6, 5, 4):
            cells, report = row(use, bits)
            print(" | ".join(cells), flush=True)
    for layer in report.layers:
        print(
            f"{layer.name}: {layer.method}, {layer.patterns} patterns, {layer.bits_per_weight:.3f} bit/weight"
        )


if __name__ == "__main__":
    main()
