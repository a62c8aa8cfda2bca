"""`bnn-tf evaluate` of runs, saved models and converted files."""

import json
import shutil

import pytest

from bnn_tf.training import Run


@pytest.fixture
def saved(trained, tmp_path):
    """The run's network as a Keras programmer would have it."""
    path = tmp_path / "model.keras"
    Run.open(trained).load_network().save(path)
    return path


def test_a_run(command, trained):
    code, out, err = command("evaluate", trained)
    assert (code, err) == (0, "")
    assert out.startswith(f"{trained}: top-1 ")
    assert out.endswith("(360 images)\n")  # all that are held out, also where training used fewer


def test_json(command, trained):
    code, out, _ = command("evaluate", trained, "--json", "--limit", 48, "--batch-size", 7)
    printed = json.loads(out)
    assert code == 0
    assert set(printed) == {"target", "dataset", "images", "top1", "top5", "loss"}
    assert (printed["target"], printed["dataset"], printed["images"]) == (str(trained), "digits", 48)
    assert printed["top1"] == pytest.approx(float(Run.open(trained).metrics()[-1]["val_accuracy"]))
    assert printed["loss"] == pytest.approx(float(Run.open(trained).metrics()[-1]["val_loss"]), abs=1e-4)


def test_all_forms_agree(command, trained, saved, tmp_path):
    """The run, the saved model and the converted file know the same images."""
    file = tmp_path / "model.tflite"
    assert command("convert", trained, "-o", file)[0] == 0
    options = ("--limit", "100", "--json")
    run, keras, lce = (
        json.loads(command("evaluate", *arguments, *options)[1])
        for arguments in (
            (trained,), (saved, "--dataset", "digits", "--normalization", "unit"), (file,),
        )
    )  # fmt: skip
    assert run["top1"] == keras["top1"]
    assert lce["top1"] == pytest.approx(run["top1"], abs=0.02)
    assert lce["loss"] == pytest.approx(run["loss"], abs=0.02)


def test_another_normalization_is_another_result(command, trained):
    losses = [
        json.loads(command("evaluate", trained, "--json", "--limit", 100, "--normalization", name)[1])["loss"]
        for name in ("unit", "imagenet")
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nothing",), 1, "there is no run and no model at nothing"),
        (("nothing.tflite",), 1, "nothing.tflite"),
        (("empty",), 1, "empty is neither a run directory (no config.json) nor a SavedModel"),
        (
            ("text.keras", "--dataset", "digits", "--normalization", "unit"),
            1,
            "text.keras does not load as a Keras model",
        ),
        (("text.tflite", "--dataset", "digits", "--normalization", "unit"), 1, "text.tflite"),
        (("run", "--dataset", "nothing"), 2, "no dataset 'nothing'"),
        (("run", "--data-dir", "nothing"), 1, "the data directory nothing does not exist"),
        (("run", "--normalization", "cifra"), 2, "did you mean 'cifar'"),
        (("run", "--limit", "0"), 2, "'--limit'"),
        (("model.keras",), 2, "name a --dataset and a --normalization"),
        (("model.keras", "--dataset", "digits"), 2, "name a --dataset and a --normalization"),
    ],
)
def test_what_cannot_be_evaluated(command, trained, saved, tmp_path, monkeypatch, arguments, code, message):
    trained.rename(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for name in ("text.keras", "text.tflite"):
        (tmp_path / name).write_text("not a model")
    monkeypatch.chdir(tmp_path)
    exit_code, out, err = command("evaluate", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_run_without_a_complete_epoch(command, trained):
    shutil.rmtree(trained / "checkpoints")
    (trained / "model.weights.h5").unlink()
    code, _, err = command("evaluate", trained)
    assert (code, err) == (1, f"bnn-tf: {trained} has no weights yet: not one epoch is complete\n")


def test_other_classes(command, trained, tmp_path):
    from bnn_tf._tensorflow import tf

    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            image = tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8)).numpy()
            (tmp_path / "pictures" / split / name / "0.png").write_bytes(image)
    code, _, err = command("evaluate", trained, "--dataset", "folder", "--data-dir", tmp_path / "pictures")
    assert code == 1
    assert f"{trained} was trained on other classes than folder has" in err
