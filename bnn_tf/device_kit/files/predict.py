#!/usr/bin/env python3
"""Runs model.tflite on a PC, on Larq Compute Engine's own interpreter (pip install larq-compute-engine).

    python3 predict.py [PICTURE] [-o OUTPUT]

Without PICTURE it takes the reference image. There is no such interpreter for ARM Linux or Android; there,
the scripts run_lce_on_pi.sh and run_lce_on_android.sh run the file.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from compare import dequantized, show
from preprocess import HERE, preprocess, read_picture, read_rule, write_array


def predict(inputs: np.ndarray) -> np.ndarray:
    """The network's output for `[1, height, width, 3]`, float32 or int8 as the device gives it."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # before TensorFlow is imported: Larq needs Keras 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    return Interpreter((HERE / "model.tflite").read_bytes()).predict(inputs)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Classifies a picture on this computer.")
    parser.add_argument("picture", type=Path, nargs="?", default=HERE / "reference_image.npy")
    parser.add_argument("-o", "--output", type=Path, help="file for the outputs, .npy or raw")
    options = parser.parse_args()
    try:
        outputs = predict(preprocess(read_picture(options.picture), read_rule()))
        if options.output is not None:
            write_array(options.output, outputs)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"predict.py: {error}")
    quantization = json.loads((HERE / "expected.json").read_text())["quantization"]
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    show(dequantized(outputs, quantization), labels)


if __name__ == "__main__":
    main()
