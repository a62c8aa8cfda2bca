"""`bnn-tf convert`: a checked file, or nothing."""

import json

import pytest

from bnn_tf import deploy
from bnn_tf._tensorflow import tf


def test_a_run(command, trained):
    code, out, err = command("convert", trained)
    assert (code, err) == (0, "")
    assert "binary convolutions: 1 of 1 as LceBconv2d" in out
    assert "agreement" in out
    sidecar = json.loads((trained / "model.tflite.json").read_text())
    assert (sidecar["dataset"], sidecar["labels"]) == ("digits", list("0123456789"))
    assert sidecar["crop"] == [8, 8]
    stored = deploy.contract.read(deploy.LceFile(trained / "model.tflite"))
    assert (stored["labels"], stored["crop"]) == (list("0123456789"), [8, 8])
    assert stored["outputs"][0]["meaning"] == "logits"


def test_json(command, trained, tmp_path):
    code, out, _ = command("convert", trained, "-o", tmp_path / "x.tflite", "--json", "--images", 30)
    printed = json.loads(out)
    assert code == 0
    assert printed["path"] == str(tmp_path / "x.tflite")
    assert printed["size"] == (tmp_path / "x.tflite").stat().st_size
    assert printed["expected_binary_convs"] == printed["actual_binary_convs"] == 1
    assert [layer["layer"] for layer in printed["parity"]["layers"]] == ["body_conv"]
    assert not (trained / "model.tflite").exists()


def test_a_name_of_another_kind_of_file(command, trained, tmp_path):
    code, _, err = command("convert", trained, "-o", tmp_path / "model.onnx")
    assert code == 2
    assert "what is written is a TFLite file" in err
    assert not (tmp_path / "model.onnx").exists()


def test_a_saved_model_needs_no_dataset(command, tiny, tmp_path):
    tiny(method="recu").save(tmp_path / "model.keras")
    code, out, _ = command("convert", tmp_path / "model.keras", "-o", tmp_path / "model.tflite", "--layers")
    assert code == 0
    assert "1 of 1 as LceBconv2d" in out
    assert "body_conv: 0 of 2,048 signs flipped" in out
    described = json.loads((tmp_path / "model.tflite.json").read_text())
    assert described["outputs"][0]["name"] == "logits"
    assert "dataset" not in described  # nothing is known of its images
    code, _, err = command("evaluate", tmp_path / "model.tflite")
    assert code == 2
    assert "does not say which images it takes" in err


def test_a_saved_model_with_its_dataset(command, tiny, tmp_path):
    tiny().save(tmp_path / "model.keras")
    code, _, _ = command(
        "convert", tmp_path / "model.keras", "-o", tmp_path / "model.tflite",
        "--dataset", "digits", "--normalization", "unit", "--images", 20,
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "model.tflite.json").read_text())["crop"] == [8, 8]


@pytest.fixture
def refused(monkeypatch):
    """A conversion whose outputs disagree."""

    def fail(*_, **__):
        raise deploy.ConversionError("The converted model disagrees with Keras: …")

    monkeypatch.setattr(deploy.convert, "to_flatbuffer", fail)


def test_a_failure_writes_nothing_and_exits_with_1(command, trained, refused):
    before = sorted(trained.rglob("*"))
    code, out, err = command("convert", trained)
    assert (code, out) == (1, "")
    assert err == "bnn-tf: The converted model disagrees with Keras: …\n"
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (("convert",), "--allow-disagreement writes the file all the same"),
        (
            ("device-kit", "-o", "kit"),
            "take what `bnn-tf convert --allow-disagreement` writes with --tflite FILE",
        ),
    ],
)
def test_advice_for_programs_becomes_an_option(command, trained, tmp_path, monkeypatch, line, advice):
    pytest.importorskip("larq_compute_engine", reason="a kit without it has no file to compare")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deploy.convert, "LEAST_AGREEMENT", 1.1)  # more than any file reaches
    code, _, err = command(line[0], trained, *line[1:], "--images", 20)
    assert code == 1
    assert err.endswith(f"Nothing was written; {advice}\n")


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
    exit_code, out, err = command("convert", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "text.keras"]


def test_several_outputs_keep_their_names(command, tmp_path):
    image = tf.keras.Input((4, 4, 3), name="photo")
    outputs = [tf.keras.layers.Conv2D(n, 1, name=name)(image) for n, name in ((3, "zoom"), (2, "area"))]
    tf.keras.Model(image, outputs).save(tmp_path / "two.keras")
    code, out, _ = command("convert", tmp_path / "two.keras", "-o", tmp_path / "x.tflite", "--json")
    assert code == 0
    assert [output["name"] for output in json.loads(out)["contract"]["outputs"]] == ["zoom", "area"]
