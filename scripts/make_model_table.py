#!/usr/bin/env python3
"""Counts what every network of the zoo costs and writes it to bnn_tf/cli/models.json.

`bnn-tf models` shows these figures without TensorFlow. Run it again after a change to a network:

    python scripts/make_model_table.py [--check]
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import bnn_tf
import zoo
from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.cli.models import FACTS
from bnn_tf.report import account

# Executed AArch64 instructions of one inference of the folded network with one-padding on LCE 0.16, one
# thread, counted under emulation; see docs/operators.md.
ARM_INSTRUCTIONS = {
    "bireal_net18": 120.0e6,
    "react_resnet18": 125.8e6,
    "vgg_small": 18.8e6,
    "cifar_resnet18": 19.2e6,
    "cifar_resnet20": 6.9e6,
    "bireal_net18_quick": 67.4e6,
    "react_resnet18_quick": 73.3e6,
}


def tflite_bytes(network: tf.keras.Model) -> int:
    """The size of the file that `bnn_tf.convert` writes of a network; its weights are changed.

    A file holds equal constants once, and what adds nothing is folded away. A new network, whose biases are
    all zero and whose kernels may have one sign, would so be up to a third smaller than when it is trained;
    random numbers prevent that.
    """
    rng = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign_add(0.1 * (rng.random(variable.shape, np.float32) - 0.5))
    with tempfile.TemporaryDirectory() as folder:
        return bnn_tf.convert(network, Path(folder) / "model.tflite", parity=False).size


def facts(name: str) -> dict:
    """What is known of one network."""
    builder = zoo.get_model(name)
    network = builder()
    counted = account(network)
    total = counted.total
    parameters = total.binary_parameters + total.real_parameters
    return {
        "function": f"zoo.{builder.__name__}",
        "summary": inspect.getdoc(builder).split("\n")[0],
        "input": counted.input_shape[0],
        "parameters": parameters,
        "binary_share": round(total.binary_parameters / parameters, 4),
        "megabytes": round(total.memory_bits / 8e6, 4),
        "tflite_bytes": tflite_bytes(network),
        "real_macs": total.real_macs,
        "binary_macs": total.binary_macs,
        "arm_instructions": ARM_INSTRUCTIONS.get(name),
    }


def main() -> None:
    """Writes the table, or compares it with `--check`."""
    table = {}
    for name in zoo.list_models():
        print(name, file=sys.stderr)
        table[name] = facts(name)
    text = json.dumps(table, indent=1) + "\n"
    if "--check" not in sys.argv:
        files.write_text(FACTS, text)
    elif FACTS.read_text() != text:
        sys.exit(f"{FACTS} is not up to date; run scripts/make_model_table.py")


if __name__ == "__main__":
    main()
