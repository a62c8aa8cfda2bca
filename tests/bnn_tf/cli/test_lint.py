"""`bnn-tf lint` of runs, saved models and architectures."""

import json

import pytest

from bnn_tf._tensorflow import lq, tf


@pytest.fixture
def broken(tmp_path):
    """A saved model that LCE would miscompute."""
    x = image = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(32, 3, strides=2, name="strided")(tf.keras.layers.ZeroPadding2D(1)(x))
    tf.keras.Model(image, x, name="broken").save(tmp_path / "broken.keras")
    return tmp_path / "broken.keras"


def test_a_broken_model_exits_with_1(command, broken):
    code, out, err = command("lint", broken)
    assert (code, err) == (1, "")
    assert out.startswith("error strided-padding: strided\n")
    assert out.endswith("broken: 1 error, 0 warnings, 0 notes\n")


def test_json(command, broken):
    code, out, _ = command("lint", broken, "--json")
    printed = json.loads(out)
    assert code == 1
    assert (printed["model"], printed["errors"]) == ("broken", 1)
    assert printed["findings"][0]["layer"] == "strided"


def test_warnings_fail_only_when_strict(command, tiny):
    options = ("lint", "--model", "tiny", "--method", "recu")
    code, out, _ = command(*options)
    assert (code, "warning zero-padding: body_conv" in out) == (0, True)
    assert "Train with --set model.pad_values=1" in out
    assert command(*options, "--strict")[0] == 1
    wide = ("--set", "model.pad_values=1", "--set", "model.width=32")
    assert command(*options, *wide, "--strict")[0] == 0


def test_a_run(command, trained):
    code, out, err = command("lint", trained)
    assert (code, err) == (0, "")
    assert out.endswith("tiny: 0 errors, 2 warnings, 1 note\n")


def test_an_hdf5_file(command, tmp_path):
    x = image = tf.keras.Input((8, 8, 32))
    x = lq.layers.QuantConv2D(32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_tern", name="c")(x)
    with pytest.warns(UserWarning, match="HDF5"):
        tf.keras.Model(image, x).save(tmp_path / "model.h5")
    code, out, _ = command("lint", tmp_path / "model.h5")
    assert code == 1
    assert "error ternary-weights: c" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "name a run or saved model, or a --model"),
        (("x", "--model", "vgg_small"), 2, "name a run or saved model, or a --model"),
        (("x", "--method", "recu"), 2, "go with --model"),
        (("nothing",), 1, "there is no run and no model at nothing"),
        (("model.tflite",), 2, "not .tflite files"),
        (("--model", "vgg_smal"), 2, "did you mean 'vgg_small'"),
        (("--model", "vgg_small", "--strikt"), 2, "--strict"),
    ],
)
def test_wrong_usage(command, tmp_path, monkeypatch, arguments, code, message):
    (tmp_path / "model.tflite").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    exit_code, out, err = command("lint", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
