"""What is compared and in which order; no test looks at how long anything took."""

import contextlib
import importlib.util
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from bnn_tf._tensorflow import lq, tf
from bnn_tf.binarization import real_valued
from bnn_tf.deploy import Interpreter, interpreter, proof
from bnn_tf.deploy import benchmark as bench
from bnn_tf.deploy.benchmark import Candidate, benchmark, caveat, host
from bnn_tf.deploy.convert import convert
from bnn_tf.deploy.interpreter import Worker
from bnn_tf.deploy.lce_file import LceFile, plain_tflite, to_flatbuffer
from bnn_tf.errors import UserError

layers = tf.keras.layers


class FakeWorker(contextlib.nullcontext):
    """A worker whose clock is a counter that all of them share."""

    def __init__(self, name, clock):
        super().__init__(self)
        self.name, self.clock = name, clock

    def run(self, runs):
        self.clock.append((self.name, runs))
        return [float(len(self.clock))] * runs

    def memory(self):
        return 1


@pytest.fixture
def clock():
    """Who ran, and how many inferences, in order."""
    return []


@pytest.fixture
def fakes(clock):
    """Candidates that run on the clock."""

    class FakeCandidate(Candidate):
        def to_dict(self):
            return {"name": self.name}

        def worker(self, threads, xnnpack):
            return FakeWorker(self.name, clock)

    return [FakeCandidate(name, "C", Path(name)) for name in "abc"]


def measured(report):
    """The measurements of all candidates, in order."""
    return [one for candidate in report["candidates"] for one in candidate["measurements"]]


class TestTurns:
    def test_every_round_visits_all_and_every_second_one_backwards(self, fakes, clock):
        report = benchmark(fakes, rounds=3, runs=2)
        assert [name for name, _ in clock[3:]] == list("abccbaabc")
        assert {runs for _, runs in clock[3:]} == {2}
        # Of the turns 1 to 9 after the warm-up the first has 1, 6 and 7, the last one 3, 4 and 9.
        assert [one["median_ms"] for one in measured(report)] == [9000.0, 8000.0, 7000.0]
        assert [one["fastest_ms"] for one in measured(report)] == [4000.0, 5000.0, 6000.0]
        assert [one["inferences"] for one in measured(report)] == [6, 6, 6]
        assert measured(report)[0]["p90_ms"] == pytest.approx(10_000)
        assert [one["times_the_first"] for one in measured(report)] == pytest.approx([1, 11 / 10, 12 / 10])

    def test_warm_up_does_not_count(self, fakes, clock):
        report = benchmark(fakes[:2], rounds=1, runs=1, warmup=5)
        assert [one["median_ms"] for one in measured(report)] == [3000.0, 4000.0]
        assert clock == [("a", 5), ("b", 5), ("a", 1), ("b", 1)]


class TestHost:
    def test_this_one(self):
        assert host()["cores"] >= 1
        assert host()["cpu"]

    @pytest.mark.parametrize("architecture", ["x86_64", "AMD64"])
    def test_x86_says_nothing_about_arm(self, architecture):
        assert "x86 has no optimized LCE kernels" in caveat(architecture)
        assert "say nothing about ARM" in caveat(architecture)

    def test_others_do_not_claim_that(self):
        assert "x86" not in caveat("aarch64")


@pytest.fixture(scope="module")
def model():
    """Two binary convolutions with shortcuts, and weights of a trained network."""
    rng = np.random.default_rng(0)
    image = x = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same", name="stem")(x)
    for name in ("a", "b"):
        y = lq.layers.QuantConv2D(
            32, 3, padding="same", pad_values=1.0, use_bias=False, input_quantizer="approx_sign",
            kernel_quantizer="magnitude_aware_sign", kernel_constraint="weight_clip", name=name,
        )(x)  # fmt: skip
        x = layers.add([x, layers.BatchNormalization(name=f"{name}_bn")(y)])
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    model = tf.keras.Model(image, layers.Dense(10, name="logits")(x), name="small")
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The LCE file, and float32 and int8 builds of the real-valued form."""
    folder = tmp_path_factory.mktemp("files")
    measured = {form: folder / f"{form}.tflite" for form in ("LCE", "float32", "int8")}
    convert(model, measured["LCE"])
    real = real_valued(model)
    measured["float32"].write_bytes(plain_tflite(real))
    images = np.random.default_rng(1).standard_normal((8, 8, 8, 3), np.float32)
    measured["int8"].write_bytes(plain_tflite(real, images))
    return measured


def counted(path):
    return {(one["name"], one["type"]): one["count"] for one in Candidate.of_file(path).operators()}


class TestCandidates:
    def test_lce(self, files):
        candidate = Candidate.of_file(files["LCE"])
        assert (candidate.form, candidate.name) == ("LCE", str(files["LCE"]))
        assert candidate.to_dict()["size"] == files["LCE"].stat().st_size
        counts = counted(files["LCE"])
        assert counts["LceBconv2d", "bits→float32"] == 2
        assert counts["LceQuantize", "float32→bits"] == 2
        assert counts["CONV_2D", "float32"] == 1

    def test_plain_ones(self, files):
        assert Candidate.of_file(files["float32"]).form == "TFLite"
        assert counted(files["float32"])["CONV_2D", "float32"] == 3
        counts = counted(files["int8"])
        assert counts["CONV_2D", "int8"] == 3
        assert not any(name == "QUANTIZE" for name, _ in counts)  # images and logits are int8
        assert not [name for name, kind in counts if kind == "float32"]

    def test_sizes_follow_the_types(self, files):
        size = {form: path.stat().st_size for form, path in files.items()}
        assert size["LCE"] < size["int8"] < size["float32"]

    def test_what_xnnpack_takes(self, files):
        taken = Candidate("net", "int8", files["int8"]).delegated()
        operators = len(LceFile(files["int8"]).operators)
        assert taken["taken"] + len(taken["left"]) == taken["operators"] == operators
        assert taken["taken"] >= 4  # its convolutions and the dense layer
        assert "CONV_2D" not in taken["left"]
        assert Candidate("net", "LCE", files["LCE"]).delegated() is None

    def test_no_model(self, tmp_path):
        (tmp_path / "text.tflite").write_text("not a model at all")
        with pytest.raises(UserError, match="is no TFLite model"):
            Candidate.of_file(tmp_path / "text.tflite")


class TestPlain:
    def test_every_larq_layer_becomes_keras_own(self, model):
        real = real_valued(model)
        assert [type(layer) for layer in real.layers] == [
            layers.Conv2D if isinstance(layer, lq.layers.QuantConv2D) else type(layer)
            for layer in model.layers
        ]
        assert not [module for module in real.submodules if isinstance(module, lq.quantizers.Quantizer)]
        np.testing.assert_array_equal(real.get_layer("a").kernel, model.get_layer("a").kernel.latent_variable)
        assert real.count_params() == model.count_params()
        assert isinstance(model.get_layer("a"), lq.layers.QuantConv2D)

    def test_signs_outside_of_layers_become_nothing(self):
        image = tf.keras.Input((4, 4, 3))
        x = lq.quantizers.ApproxSign()(layers.Activation(lq.quantizers.SteSign())(image))
        dense = lq.layers.QuantDense(2, input_quantizer="ste_sign", kernel_quantizer="ste_tern")
        real = real_valued(tf.keras.Model(image, dense(layers.Flatten()(x))))
        images = np.random.default_rng(0).standard_normal((2, 4, 4, 3), np.float32)
        expected = images.reshape(2, -1) @ real.layers[-1].kernel.numpy()
        np.testing.assert_allclose(real(images, training=False), expected, rtol=1e-4, atol=1e-5)

    def test_the_builds_compute_the_real_network(self, model, files):
        images = np.random.default_rng(2).standard_normal((16, 8, 8, 3), np.float32)
        logits = np.asarray(real_valued(model)(images, training=False))
        assert proof.compare(logits, Interpreter(files["float32"]).predict(images)).moved_share == 0
        rounded = Interpreter(files["int8"]).predict(images)
        assert 0 < np.abs(rounded - logits).mean() < 0.1 * logits.std()

    def test_what_int8_cannot_express_is_one_line(self):
        image = tf.keras.Input((4, 4, 3))
        inverse = tf.linalg.inv(tf.matmul(image, image, transpose_a=True))
        images = np.ones((2, 4, 4, 3), np.float32)
        with pytest.raises(UserError, match="TFLite's converter refuses 'odd'") as caught:
            plain_tflite(tf.keras.Model(image, inverse, name="odd"), images)
        assert "\n" not in str(caught.value)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestWorkers:
    def test_a_file_of_pixels_runs(self):
        image = tf.keras.Input((4, 4, 3))
        file = LceFile(to_flatbuffer(tf.keras.Model(image, layers.ReLU()(image)), input="uint8"))
        with Worker(file) as running:
            assert len(running.run(2)) == 2

    def test_a_process_ends_with_its_context(self, files):
        with Worker(LceFile(files["LCE"]), 2) as running:
            assert alive(running.pid)
            assert running.pid != os.getpid()
            assert len(running.run(2)) == 2
            assert 0 < running.memory() < 100e6
        assert not alive(running.pid)

    def test_an_interrupt_leaves_no_process(self, files, monkeypatch):
        started = []

        class Remembered(Worker):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                started.append(self.pid)

            def run(self, runs):
                raise KeyboardInterrupt

        monkeypatch.setattr(bench, "Worker", Remembered)
        candidates = [Candidate.of_file(path) for path in files.values()]
        with pytest.raises(KeyboardInterrupt):
            benchmark(candidates)
        assert len(started) == 3
        assert not any(map(alive, started))

    def test_a_worker_that_dies_is_reported(self, files):
        with Worker(LceFile(files["LCE"]), 1) as running:
            os.kill(running.pid, signal.SIGKILL)
            with pytest.raises(UserError, match=r"it ends the interpreter's process \(SIGKILL\)"):
                running.run(1)

    def test_without_the_interpreter(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match="pip install larq-compute-engine"):
            interpreter.native_library()


def test_benchmark(files):
    candidates = [Candidate.of_file(path, form) for form, path in files.items()]
    report = json.loads(json.dumps(benchmark(candidates, threads=(1, 2), rounds=2, runs=3, warmup=1)))
    assert [candidate["name"] for candidate in report["candidates"]] == ["LCE", "float32", "int8"]
    for candidate in report["candidates"]:
        assert [one["threads"] for one in candidate["measurements"]] == [1, 2]
        assert {one["inferences"] for one in candidate["measurements"]} == {6}
        assert all(one["peak_memory_bytes"] > candidate["size"] / 2 for one in candidate["measurements"])
        for one in candidate["measurements"]:
            assert 0 < one["fastest_ms"] <= one["median_ms"] <= one["p90_ms"]
    assert measured(report)[0]["times_the_first"] == 1
    assert (report["rounds"], report["runs"]) == (2, 3)
    assert report["caveat"] == caveat(report["host"]["architecture"])
    first = report["candidates"][0]
    assert {"name": "LceBconv2d", "type": "bits→float32", "count": 2} in first["operators"]
    assert "with XNNPACK" in report["interpreter"]
    assert "without XNNPACK" in benchmark(candidates[1:2], rounds=1, runs=1, xnnpack=False)["interpreter"]
