"""`bnn-tf convert --int8`, and files of it evaluated."""

import json

import pytest

from bnn_tf.deploy import Interpreter

FEW = ("--images", 32, "--calibration-images", 32)


@pytest.mark.parametrize(
    ("arguments", "form", "layers"),
    [((), "classifier", ["logits"]), (("mixed",), "mixed", ["stem_conv", "logits"])],
    ids=["alone", "mixed"],
)
def test_forms(command, trained, arguments, form, layers):
    """Alone it takes what suits the network: here the form that costs nothing around a cheap first layer."""
    code, out, err = command("convert", trained, *FEW, "--int8", *arguments, "--json")
    printed = json.loads(out)["int8"]
    assert (code, err) == (0, "")
    assert (printed["form"], printed["calibration_images"]) == (form, 32)
    assert printed["layers"] == layers
    assert (printed["input_type"], printed["output_type"]) == ("float32", "float32")


def test_int8_input_and_output_are_evaluated(command, trained, tmp_path):
    file = tmp_path / "model.tflite"
    options = ("--int8", "mixed", "--int8-input", "--int8-output")
    code, out, _ = command("convert", trained, "-o", file, *FEW, *options)
    assert code == 0
    assert "int8: mixed, 2 layers with int8 kernels, ranges from 32 images, int8 input" in out
    assert (Interpreter(file).input_type, Interpreter(file).output_type) == ("int8", "int8")
    lce, run = (json.loads(command("evaluate", path, "--json")[1]) for path in (file, trained))
    assert lce["top1"] == pytest.approx(run["top1"], abs=0.05)
    assert lce["loss"] == pytest.approx(run["loss"], abs=0.05)


def test_full_needs_one_padding(command, trained):
    code, out, err = command("convert", trained, *FEW, "--int8", "full")
    assert (code, out) == (1, "")
    assert "pad with zeros: 'body_conv'" in err
    assert "Train with pad_values=1" in err
    assert not (trained / "model.tflite").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--int8", "ful"), "'ful' is not one of 'auto', 'classifier'"),
        (("--int8-input",), "these options need --int8; leave out --int8-input"),
        (("--int8", "--no-fold"), "--int8 needs folding"),
    ],
)
def test_wrong_options(command, trained, arguments, message):
    code, out, err = command("convert", trained, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_int8_before_the_target(command, trained):
    code, _, err = command("convert", "--int8", trained)
    assert code == 2
    assert "write TARGET first" in err


def test_a_saved_model_needs_its_dataset(command, tiny, tmp_path):
    tiny().save(tmp_path / "model.keras")
    code, _, err = command("convert", tmp_path / "model.keras", "-o", tmp_path / "x.tflite", "--int8")
    assert code == 2
    assert "name a --dataset and a --normalization" in err
