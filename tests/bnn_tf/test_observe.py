"""What is measured of binary kernels, by hand and in training."""

import json

import numpy as np
import pytest

from bnn_tf import codebook, observe, quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UserError
from bnn_tf.losses import Distiller
from bnn_tf.training import set_seeds


def conv(name, quantizer, filters=6, size=3):
    return lq.layers.QuantConv2D(filters, size, kernel_quantizer=quantizer, use_bias=False, name=name)


@pytest.fixture(scope="module")
def kernels_of_model():
    set_seeds(0)
    inner = tf.keras.Sequential([conv("inner", quantizers.ReCU(tau=0.9))], name="nested")
    layers = [
        conv("first", quantizers.ScaledSign(), size=1),
        conv("real", None),
        inner,
        conv("last", quantizers.SubBit(bits=4)),
    ]
    model = tf.keras.Sequential([tf.keras.Input((9, 9, 3)), *layers])
    return model, observe.binary_kernels(model)


def test_binary_kernels_in_order(kernels_of_model):
    _, kernels_ = kernels_of_model
    assert [kernel.name for kernel in kernels_] == ["first", "inner", "last"]
    assert [kernel.has_slices for kernel in kernels_] == [False, True, True]
    assert [kernel.tau for kernel in kernels_] == pytest.approx([observe.REFERENCE_TAU, 0.9, 0.99])


def test_signs_are_those_that_the_layer_uses(kernels_of_model):
    model, kernels_ = kernels_of_model
    layer = model.get_layer("nested").get_layer("inner")
    np.testing.assert_array_equal(
        kernels_[1].signs,
        layer.get_weights()[0] * 0 + layer.kernel_quantizer(tf.constant(kernels_[1].latent)).numpy(),
    )
    assert set(np.unique(kernels_[0].signs)) == {-1, 1}


def test_patterns_of_a_codebook(kernels_of_model):
    _, kernels_ = kernels_of_model
    sub_bit = kernels_[2]
    assert len(sub_bit.patterns) == 16
    counts = observe.pattern_counts(sub_bit.signs)
    assert counts[sub_bit.patterns].sum() == 6 * 6  # every slice is one of the layer's patterns
    assert kernels_[1].patterns is None


def test_dead_share_is_what_the_authors_clamp(golden):
    arrays = golden("recu_kernel")
    for tau in (85, 93, 99):
        w1 = observe.standardized(arrays[f"tau{tau}_w"])
        assert observe.bound(w1, tau / 100) == pytest.approx(float(arrays[f"tau{tau}_Q_tau"]), rel=1e-5)
        clamped = float(arrays[f"tau{tau}_clamped_fraction"])
        assert observe.dead_share(w1, tau / 100) == pytest.approx(clamped, abs=1e-6)


def test_dead_share_of_a_laplace_distribution(rng):
    w1 = rng.laplace(size=(3, 3, 100, 100)).astype(np.float32)
    for tau in (0.7, 0.9, 0.99):
        assert observe.dead_share(w1, tau) == pytest.approx(2 - 2 * tau, abs=0.01)


def test_quantization_error_by_hand():
    w1 = np.array([1.0, -1.0, 3.0, -3.0], np.float32).reshape(1, 1, 4, 1)
    # Without a clamp α is 2, and each weight is off by 1; E = 2, so that τ = 0.7 clamps at 1.02.
    assert observe.quantization_error(w1, 1.0) == pytest.approx(1 / 5)
    limit = -2 * np.log(0.6)
    assert observe.quantization_error(w1, 0.7) == pytest.approx(((limit - 1) / 2) ** 2 / 5, rel=1e-4)


def test_quantization_error_has_a_scale_per_channel():
    w1 = np.array([[1.0, -5.0], [-1.0, 5.0]], np.float32)
    assert observe.quantization_error(w1, 1.0) == pytest.approx(0, abs=1e-7)


def test_the_error_grows_with_tau(rng):
    w1 = observe.standardized(rng.standard_normal((3, 3, 16, 16), np.float32))
    errors = [observe.quantization_error(w1, tau) for tau in (0.6, 0.8, 0.9, 0.99)]
    assert errors == sorted(errors)


def test_histogram_counts_every_weight():
    counts = observe.histogram(np.array([-100.0, -0.1, 0.1, 0.2, 100.0]))
    assert counts.sum() == 5
    assert counts[[0, 23, 24, 47]].tolist() == [1, 1, 2, 1]


def test_entropy():
    assert observe.entropy([5, 5, 0, 5, 5]) == pytest.approx(2)
    assert observe.entropy([7, 0]) == 0
    assert observe.entropy([]) == 0
    assert observe.sign_entropy(np.array([1, 1, 1, -1])) == pytest.approx(0.8112781)


def test_pattern_counts_follow_the_codebooks_numbers():
    patterns = codebook.all_patterns()[[3, 3, 500]]
    signs = patterns.T.reshape(3, 3, 1, 3)
    counts = observe.pattern_counts(signs)
    assert (counts[3], counts[500], counts.sum()) == (2, 1, 3)
    assert codebook.pattern_numbers(tf.constant(patterns)).numpy().tolist() == [3, 3, 500]


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
    fit(model, observe.KernelDiagnostics(folder / "d.jsonl", "weights", log_dir=folder / "logs"))
    return folder, model


def test_one_record_per_layer_and_epoch(recorded):
    folder, model = recorded
    records = observe.read(folder / "d.jsonl")
    assert [(r["phase"], r["epoch"], r["layer"]) for r in records] == [
        ("weights", epoch, layer) for epoch in (0, 1, 2) for layer in ("a", "b")
    ]
    now = [observe.measure(kernel) for kernel in observe.binary_kernels(model)]
    for record, measured in zip(records[4:], now, strict=True):
        assert {key: record[key] for key in measured} == measured


def test_the_start_and_the_flips_of_each_epoch(tmp_path):
    model, path = network(), tmp_path / "d.jsonl"
    callback = observe.KernelDiagnostics(path)
    callback.set_model(model)
    start = [observe.measure(kernel) for kernel in observe.binary_kernels(model)]
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    kernel = model.get_layer("a").kernel
    values = np.zeros(kernel.shape)
    values[..., 0, :], values[..., 1, :] = 1, -1  # of mean 0, which standardizing leaves alone
    kernel.assign(values)
    callback.on_epoch_end(0)
    callback.on_epoch_begin(1)
    values[0, 0, :, :2] *= -1
    kernel.assign(values)
    callback.on_epoch_end(1)
    records = [record for record in observe.read(path) if record["layer"] == "a"]
    assert {key: records[0][key] for key in start[0]} == start[0]
    assert [record["epoch"] for record in records] == [0, 1, 2]
    assert records[0]["epoch_flips"] is None
    assert 0 < records[1]["epoch_flips"] < 1
    assert records[2]["epoch_flips"] == pytest.approx(4 / 72, abs=1e-6)

    callback.on_train_begin()  # stopped in the first epoch: the start stays what it was
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0)
    again = [record for record in observe.read(path) if record["layer"] == "a"]
    assert again[0] == records[0]
    assert (again[1]["epoch"], again[1]["epoch_flips"], len(again)) == (1, None, 2)


def test_what_is_measured(recorded):
    _, model = recorded
    plain, sub_bit = (observe.measure(kernel) for kernel in observe.binary_kernels(model))
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


def test_tensorboard_gets_what_is_asked_for_and_the_file_all(tmp_path):
    logged = ("sign_entropy", "flip_ratio")  # the second is another callback's
    fit(network(), observe.KernelDiagnostics(tmp_path / "d.jsonl", log_dir=tmp_path, logged=logged), epochs=1)
    (events,) = (tmp_path / "layers").iterdir()
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert tags == {"sign_entropy/a", "sign_entropy/b"}
    assert observe.read(tmp_path / "d.jsonl")[-1].keys() >= {*observe.FIGURES, "histogram"}


def test_resuming_replaces_what_an_interrupted_training_said(tmp_path):
    path = tmp_path / "d.jsonl"
    earlier = {"phase": "activations", "epoch": 9, "layer": "a"}
    kept, dropped = ({"phase": "weights", "epoch": epoch, "layer": "a"} for epoch in (1, 2))
    path.write_text("".join(json.dumps(r) + "\n" for r in (earlier, kept, dropped)) + '{"phase": "wei')
    fit(network(), observe.KernelDiagnostics(path, "weights"), epochs=2, initial_epoch=1)
    records = observe.read(path)
    assert records[:2] == [earlier, kept]
    assert [(r["epoch"], r["layer"]) for r in records[2:]] == [(2, "a"), (2, "b")]
    assert "histogram" in records[2]
    assert records[2]["epoch_flips"] is None


def test_network_without_binary_kernels_writes_nothing(tmp_path):
    fit(network(binary=False), observe.KernelDiagnostics(tmp_path / "d.jsonl", log_dir=tmp_path), epochs=1)
    assert list(tmp_path.iterdir()) == []
    assert observe.read(tmp_path / "d.jsonl") == []


def test_student_of_a_distiller(tmp_path):
    student, teacher = network(), network(binary=False)
    distiller = Distiller(student, teacher)
    distiller.compile("sgd")
    fit(distiller, observe.KernelDiagnostics(tmp_path / "d.jsonl", network=student), epochs=1)
    assert [r["layer"] for r in observe.read(tmp_path / "d.jsonl")] == ["a", "b"] * 2


@pytest.mark.parametrize("line", [b"{}", b"1", b"\xff\xfe", b"[" * 100_000, b'{"phase": "tr'])
def test_a_damaged_line_ends_the_reading(tmp_path, line):
    whole = b'{"phase":"train","epoch":1,"layer":"a"}\n'
    (tmp_path / "d.jsonl").write_bytes(whole + line + b"\n" + whole)
    assert observe.read(tmp_path / "d.jsonl") == [{"phase": "train", "epoch": 1, "layer": "a"}]


def test_a_full_disk_is_one_clear_error(kernels_of_model):
    model, _ = kernels_of_model
    callback = observe.KernelDiagnostics("/dev/full")
    callback.set_model(model)
    with pytest.raises(UserError, match="cannot write /dev/full: No space left on device"):
        callback.on_epoch_end(0)
