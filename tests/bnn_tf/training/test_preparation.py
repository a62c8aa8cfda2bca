"""Where a phase's weights come from, and which of them it trains."""

import numpy as np

from bnn_tf import layers
from bnn_tf._tensorflow import lq
from bnn_tf.training import preparation, train, trainer
from zoo.recipes import Phase


def test_init_from_takes_the_weights_and_reports(recipe, new_run, session, monkeypatch, quick_fit):
    source = new_run(recipe("real", epochs=1), "source")
    given = train(source, session)
    run = new_run(recipe("recu"), init_from=str(source.path))
    monkeypatch.setattr(trainer, "_train_phase", lambda *_: None)
    network = train(run, session)
    np.testing.assert_array_equal(network.get_layer("body_conv").kernel.numpy(),
                                  given.get_layer("body_conv").kernel.numpy())  # fmt: skip
    text = session.console.file.getvalue()
    assert f"Starting from {source.path}" in text
    assert "2 without a source: body_conv/tau, body_conv_scale/scale" in text


def test_a_phase_may_name_its_run(recipe, new_run, session, monkeypatch, quick_fit):
    source = new_run(recipe("real", epochs=1), "source")
    given = train(source, session)
    phases = (Phase("first", method={"name": "real"}), Phase("second", start=str(source.path)))
    run = new_run(recipe(phases=phases))
    monkeypatch.setattr(trainer, "_train_phase", lambda *_: None)
    network = train(run, session)
    np.testing.assert_array_equal(network.get_weights()[0], given.get_weights()[0])


def test_select_trainable_batch_norm(tiny):
    network = tiny(method="recu")
    preparation.select_trainable(network, Phase(trainable="batch_norm"))
    assert {v.name.split("/")[-1] for v in network.trainable_variables} == {"gamma:0", "beta:0"}


def test_binarize_kernels_leaves_real_ones(tiny):
    network = tiny()
    stem = network.get_layer("stem_conv").kernel.numpy()
    latent = network.get_layer("body_conv").kernel.numpy()
    preparation.binarize_kernels(network)
    np.testing.assert_array_equal(network.get_layer("stem_conv").kernel.numpy(), stem)
    np.testing.assert_array_equal(network.get_layer("body_conv").kernel.numpy(), np.where(latent >= 0, 1, -1))
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("f")
    layer = network.get_layer("body_conv")
    with lq.context.quantized_scope(True):
        np.testing.assert_array_equal(layer.kernel.numpy(), np.where(latent >= 0, 1, -1))  # no scale is left
    assert layer(x).shape == (1, 8, 8, 8)
    assert not any(isinstance(layer, layers.OutputScale) for layer in network.layers)
