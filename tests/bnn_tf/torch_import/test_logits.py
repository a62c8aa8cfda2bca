"""From the authors' state dicts to run directories with the authors' logits, and on to files for devices."""

import numpy as np
import pytest

from bnn_tf import convert
from bnn_tf.deploy import Interpreter
from bnn_tf.training import Run


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.sample(1)
def test_each_paper_up_to_the_device(paper, imported, built, tmp_path):
    _, images, logits = built(paper)
    network = Run.open(imported(paper).run.path).load_network()
    close(network(images), logits)
    report = convert(network, tmp_path / "net.tflite", images=images)
    assert "LceBconv2d" in str(report)
    close(Interpreter(tmp_path / "net.tflite").predict(images), logits)
