"""Larq Zoo's networks wherever a command takes a run or a saved model."""

import json

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.cli.target import Target
from bnn_tf.training import start

NAME = "larq-zoo:QuickNetSmall:random:32"


@pytest.fixture(scope="module")
def network():
    tf.random.set_seed(1)
    return start.load_larq_zoo(NAME)


@pytest.fixture(autouse=True)
def _build_once(monkeypatch, network):
    """The network that the name stands for, built once for all tests here."""
    load = start.load_larq_zoo
    monkeypatch.setattr(start, "load_larq_zoo", lambda text: network if str(text) == NAME else load(text))


def test_summary(command):
    code, out, _ = command("summary", NAME, "--json")
    printed = json.loads(out)
    assert code == 0
    assert printed["model"] == "quicknet_small"
    assert printed["total"]["binary_parameters"] > 4e6


def test_lint(command):
    code, out, _ = command("lint", NAME, "--json")
    printed = json.loads(out)
    assert (code, printed["model"], printed["errors"]) == (0, "quicknet_small", 0)


@pytest.mark.slow
def test_benchmark(command):
    code, out, _ = command("benchmark", NAME, "--threads", 1, "--rounds", 1, "--runs", 1, "--json")
    assert code == 0
    assert "LceBconv2d" in out


@pytest.mark.slow
def test_convert_evaluate_and_device_kit(command, tmp_path):
    file = tmp_path / "x.tflite"
    code, out, err = command("convert", NAME, "-o", file, "--dataset", "digits", "--images", 8)
    assert (code, err) == (0, "")
    assert "binary convolutions: 16 of 16 as LceBconv2d" in out
    sidecar = json.loads((tmp_path / "x.tflite.json").read_text())
    assert (sidecar["crop"], sidecar["mean"]) == ([32, 32], [0.485, 0.456, 0.406])

    options = ("--limit", "8", "--json")
    keras = json.loads(command("evaluate", NAME, "--dataset", "digits", *options)[1])
    lce = json.loads(command("evaluate", file, *options)[1])
    assert keras["images"] == 8
    assert lce["loss"] == pytest.approx(keras["loss"], rel=0.1)

    kit = tmp_path / "kit"
    code, _, err = command(
        "device-kit", NAME, "--tflite", file, "-o", kit, "--dataset", "digits", "--images", 4
    )
    assert (code, err) == (0, "")
    labels = (kit / "labels.txt").read_text().split()
    assert (len(labels), labels[:2], labels[-1]) == (1000, ["0", "1"], "999")
    assert np.load(kit / "reference_input.npy").shape == (1, 32, 32, 3)


def test_without_a_dataset_nothing_is_known_of_local_images():
    assert not Target.open(NAME).knows_images()
    pictures = Target.open("larq-zoo:BiRealNet:random:96").images()
    assert pictures.dataset == "imagenet2012"
    assert pictures.pre().size == (96, 96)
    assert Target.open(NAME).images(normalization="unit").pre().mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("summary", "larq-zoo:QuickNt"), 2, "did you mean 'QuickNet'"),
        (("convert", NAME), 2, "name the file to write with -o"),
        (("evaluate", NAME, "--data-dir", "nothing"), 1, "the data directory nothing does not exist"),
    ],
)
def test_errors_are_one_line(command, arguments, code, message):
    exit_code, out, err = command(*arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_no_weights_without_the_internet(command, monkeypatch):
    def unreachable(*_, **__):
        print("Downloading data from …")
        raise Exception("URL fetch failure on …: None -- Name or service not known")  # as Keras does

    monkeypatch.setattr(tf.keras.utils, "get_file", unreachable)
    code, out, err = command("summary", "larq-zoo:QuickNetSmall")
    assert (code, out) == (1, "")
    assert err.endswith("larq-zoo:QuickNetSmall:random has random ones\n")
    assert len(err.splitlines()) == 1
