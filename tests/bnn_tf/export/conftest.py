"""Networks with weights that mean something, and programs made of them."""

import numpy as np
import pytest

from bnn_tf.export import check
from bnn_tf.export.int8_weights import store_levels
from bnn_tf.export.lowering import lower
from bnn_tf.export.program import compile_network
from bnn_tf.export.source import Labels, write_source


@pytest.fixture(scope="session")
def settled():
    """Gives a model's normalizations, biases and slopes values as training would leave them."""

    def settle(model, seed=0):
        rng = np.random.default_rng(seed)
        for weight in model.weights:
            name = weight.name.split("/")[-1]
            if "variance" in name:
                weight.assign(rng.uniform(0.5, 2.0, weight.shape))
            elif "gamma" in name or "scale" in name:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif "alpha" in name:
                weight.assign(rng.uniform(0.1, 0.4, weight.shape))
            elif any(key in name for key in ("mean", "beta", "bias")):
                weight.assign(rng.normal(0.0, 0.2, weight.shape))
        return model

    return settle


@pytest.fixture(scope="session")
def exported():
    """The program of a model: `(program, graph, text)`."""

    def export(model, name="net", subbit=False, int8_weights=False):
        network, graph = lower(model, rounded=int8_weights)
        if int8_weights:
            store_levels(network)
        program = compile_network(network)
        return program, graph, write_source(program, name, Labels(), subbit).text

    return export


@pytest.fixture(scope="session")
def agrees(exported):
    """Compiles a model's program, runs it, and compares every map and output with the Keras layers behind it.

    Each layer is compared from the program's own inputs to it. A deep network's outputs are not compared with
    those of the whole model: rounding next to zero flips a sign, and one sign moves every logit.
    """

    def compare(model, command=None, launcher=(), images=3, suffix=".c", **options):
        if command is None and check.compiler() is None:
            pytest.skip("there is no C compiler on this machine")
        program, graph, text = exported(model, **options)
        shape = model.input_shape[1:]
        samples = np.random.default_rng(1).standard_normal((images, *shape), np.float32)
        outcome = check.run(program, text, "net", samples, command, launcher, trace=images, suffix=suffix)
        proof = check.prove(program, graph, outcome, samples)
        assert proof.difference is None, str(proof.difference)
        return program, text, proof

    return compare
