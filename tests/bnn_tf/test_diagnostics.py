import json

import numpy as np
import pytest

from bnn_tf import diagnostics, kernels, quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.distillation import Distiller
from bnn_tf.training.seeding import set_seeds


def network(binary=True):
    set_seeds(1)
    quantizer = (lambda q: q) if binary else (lambda q: None)
    layers = [
        lq.layers.QuantConv2D(4, 3, kernel_quantizer=quantizer(quantizers.ReCU()), name="a"),
        lq.layers.QuantConv2D(4, 3, kernel_quantizer=quantizer(quantizers.SubBit(bits=3)), name="b"),
        tf.keras.layers.GlobalAveragePooling2D(),
    ]
    model = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), *layers])
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model, callback, epochs=2, initial_epoch=0):
    x, y = np.random.default_rng(0).standard_normal((8, 6, 6, 2)), np.arange(8) % 4
    model.fit(x, y, epochs=epochs, initial_epoch=initial_epoch, callbacks=[callback], verbose=0)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = network()
    fit(model, diagnostics.KernelDiagnostics(folder / "d.jsonl", "weights", log_dir=folder / "logs"))
    return folder, model


def test_one_record_per_layer_and_epoch(recorded):
    folder, model = recorded
    records = diagnostics.read(folder / "d.jsonl")
    assert [(r["phase"], r["epoch"], r["layer"]) for r in records] == [
        ("weights", epoch, layer) for epoch in (1, 2) for layer in ("a", "b")
    ]
    now = [diagnostics.measure(kernel) for kernel in kernels.binary_kernels(model)]
    for record, measured in zip(records[2:], now, strict=True):
        assert {key: record[key] for key in measured} == measured


def test_what_is_measured(recorded):
    _, model = recorded
    plain, sub_bit = (diagnostics.measure(kernel) for kernel in kernels.binary_kernels(model))
    assert plain["tau"] == pytest.approx(0.85)
    assert sum(plain["histogram"]) == 9 * 2 * 4
    assert plain["codebook"] is None
    assert len(sub_bit["codebook"]) == 8
    assert sum(count for _, count in sub_bit["codebook"]) == 16
    assert sub_bit["pattern_entropy"] <= 3
    assert 0 < plain["dead_share"] < 1


def test_tensorboard(recorded):
    folder, _ = recorded
    (events,) = (folder / "logs" / "layers").iterdir()
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {"standardized_weights/a", "dead_share/b", "pattern_entropy/b"} <= tags


def test_resuming_replaces_what_an_interrupted_training_said(tmp_path):
    path = tmp_path / "d.jsonl"
    earlier = {"phase": "activations", "epoch": 9, "layer": "a"}
    kept, dropped = ({"phase": "weights", "epoch": epoch, "layer": "a"} for epoch in (1, 2))
    path.write_text("".join(json.dumps(r) + "\n" for r in (earlier, kept, dropped)) + '{"phase": "wei')
    fit(network(), diagnostics.KernelDiagnostics(path, "weights"), epochs=2, initial_epoch=1)
    records = diagnostics.read(path)
    assert records[:2] == [earlier, kept]
    assert [(r["epoch"], r["layer"]) for r in records[2:]] == [(2, "a"), (2, "b")]
    assert "histogram" in records[2]


def test_network_without_binary_kernels_writes_nothing(tmp_path):
    fit(
        network(binary=False), diagnostics.KernelDiagnostics(tmp_path / "d.jsonl", log_dir=tmp_path), epochs=1
    )
    assert list(tmp_path.iterdir()) == []
    assert diagnostics.read(tmp_path / "d.jsonl") == []


def test_student_of_a_distiller(tmp_path):
    student, teacher = network(), network(binary=False)
    distiller = Distiller(student, teacher)
    distiller.compile("sgd")
    fit(distiller, diagnostics.KernelDiagnostics(tmp_path / "d.jsonl", network=student), epochs=1)
    assert [r["layer"] for r in diagnostics.read(tmp_path / "d.jsonl")] == ["a", "b"]
