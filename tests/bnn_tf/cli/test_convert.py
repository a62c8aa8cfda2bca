"""`bnn-tf convert`: a checked file, or nothing."""

import json

import pytest

from bnn_tf import deploy
from bnn_tf._tensorflow import lq, tf


def test_a_run(command, trained):
    code, out, err = command("convert", trained)
    assert (code, err) == (0, "")
    assert "binary convolutions: 1 of 1 as LceBconv2d" in out
    assert "agreement" in out
    sidecar = json.loads((trained / "model.tflite.json").read_text())
    assert (sidecar["dataset"], sidecar["class_names"]) == ("digits", list("0123456789"))
    assert sidecar["preprocessing"]["size"] == [8, 8]


def test_json(command, trained, tmp_path):
    code, out, _ = command("convert", trained, "-o", tmp_path / "x.tflite", "--json", "--images", 30)
    found = json.loads(out)
    assert code == 0
    assert found["path"] == str(tmp_path / "x.tflite")
    assert found["size"] == (tmp_path / "x.tflite").stat().st_size
    assert found["expected_binary_convs"] == found["actual_binary_convs"] == 1
    assert [layer["layer"] for layer in found["parity"]["layers"]] == ["body_conv"]
    assert not (trained / "model.tflite").exists()


def test_a_saved_model_needs_no_dataset(command, tiny, tmp_path):
    tiny(method="recu").save(tmp_path / "model.keras")
    code, out, _ = command("convert", tmp_path / "model.keras", "-o", tmp_path / "model.tflite", "--layers")
    assert code == 0
    assert "1 of 1 as LceBconv2d" in out
    assert "body_conv: 0 of 2,048 signs flipped" in out
    assert not (tmp_path / "model.tflite.json").exists()  # nothing is known of its images


def test_a_saved_model_with_its_dataset(command, tiny, tmp_path):
    tiny().save(tmp_path / "model.keras")
    code, _, _ = command(
        "convert", tmp_path / "model.keras", "-o", tmp_path / "model.tflite",
        "--dataset", "digits", "--normalization", "unit", "--images", 20,
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "model.tflite.json").read_text())["preprocessing"]["size"] == [8, 8]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_wrong_conversion_names_the_layer_and_counts_the_signs(command, tmp_path, form):
    x = image = tf.keras.Input((8, 8, 3))
    for number, strides in enumerate((1, 2)):
        x = tf.keras.layers.Conv2D(32, 3, strides, name=f"real{number}")(tf.keras.layers.ZeroPadding2D(1)(x))
        x = lq.layers.QuantConv2D(
            32, 3, padding="same", pad_values=1.0, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
            name=f"binary{number}",
        )(x)  # fmt: skip
        x = tf.keras.layers.BatchNormalization(beta_initializer="ones")(x)
    x = tf.keras.layers.Dense(4)(tf.keras.layers.Flatten()(x))
    tf.keras.Model(image, x).save(tmp_path / "model.keras")
    options = ["--json"] if form == "json" else []
    code, out, err = command("convert", tmp_path / "model.keras", "-o", tmp_path / "x.tflite", *options)
    assert code == 1
    assert "the input of 'binary1' is the first to differ" in err
    assert "computed by 'binary0', 'real1'" in err
    assert len(err.splitlines()) == 1
    if form == "json":
        right, wrong = json.loads(out)["parity"]["layers"]
        assert right["wrong"] == 0 < wrong["wrong"] <= wrong["flipped"]
    else:
        assert "binary0: 0 of 16,384 signs flipped" in out.splitlines()[0]
        assert "not near zero" in out.splitlines()[1]


@pytest.fixture
def refused(monkeypatch):
    """A conversion whose outputs disagree."""

    def fail(*_, **__):
        raise deploy.ConversionError("The converted model disagrees with Keras: …")

    monkeypatch.setattr(deploy.conversion, "to_flatbuffer", fail)


def test_a_failure_writes_nothing_and_exits_with_1(command, trained, refused):
    before = sorted(trained.rglob("*"))
    code, out, err = command("convert", trained)
    assert (code, out) == (1, "")
    assert err == "bnn-tf: The converted model disagrees with Keras: …\n"
    assert sorted(trained.rglob("*")) == before


def test_a_failure_keeps_the_old_file(command, trained, refused):
    (trained / "model.tflite").write_bytes(b"old")
    assert command("convert", trained)[0] == 1
    assert (trained / "model.tflite").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("model.keras",), 2, "name the file to write with -o"),
        (("model.keras", "-o", "deep/er/x.tflite"), 2, "there is no folder deep/er to write x.tflite to"),
        (("nothing", "-o", "x.tflite"), 1, "there is no run and no model at nothing"),
        (
            ("model.keras", "-o", "x.tflite", "--dataset", "digits"),
            2,
            "name a --dataset and a --normalization",
        ),
        (("dense.keras", "-o", "x.tflite", "--images", "0"), 2, "'--images'"),
        (("text.keras", "-o", "x.tflite"), 1, "does not load as a Keras model"),
    ],
)
def test_what_cannot_be_converted(command, tiny, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    tiny().save("model.keras")
    (tmp_path / "text.keras").write_text("not a model")
    found, out, err = command("convert", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "text.keras"]


def test_two_inputs_are_one_clear_line(command, tmp_path):
    inputs = [tf.keras.Input((4, 4, 3)), tf.keras.Input((4, 4, 3))]
    tf.keras.Model(inputs, tf.keras.layers.Add()(inputs)).save(tmp_path / "two.keras")
    code, _, err = command("convert", tmp_path / "two.keras", "-o", tmp_path / "x.tflite")
    assert code == 1
    assert "2 inputs" in err
