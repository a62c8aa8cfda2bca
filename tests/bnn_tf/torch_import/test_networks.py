"""The authors' other networks, settings and blocks: the imported run has their logits."""

import numpy as np

from bnn_tf.training import Run, build


def test_logits(other, imported, built, method_of):
    _, images, logits = built(other)
    result = imported(other)
    assert result.to_dict()["method"]["name"] == method_of(other)
    network = build.load_run_model(Run.open(result.run.path))
    np.testing.assert_allclose(network(images), logits, rtol=0, atol=1e-4)
