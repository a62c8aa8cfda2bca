#!/usr/bin/env python3
"""Compares what a device computed with what it should, with NumPy alone.

    python3 compare.py OUTPUT

OUTPUT is what `lce_benchmark_model --output_filepath` wrote for reference_input.bin, or a .npy file. Exit
code 0: they agree, 1: they do not, 2: OUTPUT cannot be read. `--show` only names the five likeliest
classes, for other pictures than the reference.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def read_output(path: Path, expected: np.ndarray, quantization: list[float] | None) -> np.ndarray:
    """A .npy file or raw little-endian bytes, in the shape of `expected`; of int8 what it stands for.

    Raises:
        ValueError: it holds something else.
    """
    if path.suffix == ".npy":
        outputs = np.load(path, allow_pickle=False)
    else:
        outputs = np.frombuffer(path.read_bytes(), "<f4" if quantization is None else np.int8)
    if outputs.size != expected.size:
        raise ValueError(f"{path} holds {outputs.size} numbers, the network has {expected.size} outputs")
    return dequantized(outputs, quantization).reshape(expected.shape)


def dequantized(outputs: np.ndarray, quantization: list[float] | None) -> np.ndarray:
    """What int8 outputs stand for: `scale * (output - zero point)`; others as they are."""
    if quantization is None or outputs.dtype != np.int8:
        return outputs
    scale, zero = quantization
    return (outputs.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def difference(outputs: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of an output; infinite where one is no number."""
    gaps = np.abs(outputs.astype(np.float64) - expected.astype(np.float64))
    return float(np.where(np.isfinite(gaps), gaps, np.inf).max())


def show(outputs: np.ndarray, labels: list[str], count: int = 5) -> None:
    """Prints the likeliest classes with their probabilities (softmax)."""
    logits = outputs.astype(np.float64).ravel()
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    for index in np.argsort(-logits, kind="stable")[:count]:
        print(f"  {shares[index]:7.2%}  {labels[index]}  (class {index}, output {logits[index]:.4f})")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compares a device's output with the expected one.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--tolerance", type=float, help="largest difference; default: see expected.json")
    parser.add_argument("--show", action="store_true", help="only name the likeliest classes")
    options = parser.parse_args()
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    expected = np.load(HERE / "expected_output.npy", allow_pickle=False)
    facts = json.loads((HERE / "expected.json").read_text())
    try:
        outputs = read_output(options.output, expected, facts["quantization"])
    except (OSError, ValueError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    show(outputs, labels)
    if options.show:
        return 0
    tolerance = facts["tolerance"] if options.tolerance is None else options.tolerance
    gap = difference(outputs, expected)
    agrees = gap <= tolerance and outputs.argmax() == expected.argmax()
    print(f"{'AGREES' if agrees else 'DISAGREES'}: largest difference {gap:.3g}, allowed {tolerance:.3g}")
    if not agrees:
        print("expected:")
        show(expected, labels)
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
