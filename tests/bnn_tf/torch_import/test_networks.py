"""The authors' other networks, settings and blocks: the imported run has their logits."""

import numpy as np
import pytest

from bnn_tf.training import Run


@pytest.mark.sample(2)
def test_logits(other, imported, built, method_of):
    _, images, logits = built(other)
    result = imported(other)
    assert result.to_dict()["method"]["name"] == method_of(other)
    network = Run.open(result.run.path).load_network()
    np.testing.assert_allclose(network(images), logits, rtol=0, atol=1e-4)
