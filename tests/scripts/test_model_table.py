"""The table behind `bnn-tf models` says what its script counts."""

import importlib.util
import json
from pathlib import Path

import pytest

from bnn_tf.cli.models import FACTS

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_model_table.py"


def test_a_small_network_is_up_to_date():
    pytest.importorskip("larq_compute_engine", reason="converts a network")
    spec = importlib.util.spec_from_file_location("make_model_table", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counted, written = script.facts("cifar_resnet20"), json.loads(FACTS.read_text())["cifar_resnet20"]
    # The bytes of a converter's tables may change with its version, the size of the network does not.
    assert counted.pop("tflite_bytes") == pytest.approx(written.pop("tflite_bytes"), rel=0.02)
    assert counted == written
    assert 64_000 < script.tflite_bytes(script.zoo.get_model("cifar_resnet20")()) < 68_000


def test_no_file_is_far_smaller_than_its_weights():
    """Equal kernels of new networks are stored once, which those of trained ones are not."""
    for name, facts in json.loads(FACTS.read_text()).items():
        if facts["tflite_bytes"] is not None:
            assert facts["tflite_bytes"] > 0.9e6 * facts["megabytes"], name
