"""`bnn-tf train` on a folder of pictures: what it finds, what it chooses, what it warns of."""

import json
from pathlib import Path

import numpy as np
import pytest

from bnn_tf.report.page import png
from bnn_tf.training import sweep


@pytest.fixture
def pictures(tmp_path):
    """Two classes of 20 pictures of 70×60 pixels."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(20):
            image = rng.integers(0, 255, (60, 70, 3), np.uint8)
            (folder / f"{number}.png").write_bytes(png(image))
    return tmp_path / "pictures"


def plan(command, *options, method="recu"):
    code, out, err = command("train", "--method", method, *options, "--dry-run", "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_folder_of_class_folders_needs_no_dataset(command, pictures):
    planned = plan(command, "--data-dir", pictures)
    assert (planned["recipe"]["dataset"], planned["data"]["class_names"]) == ("folder", ["cat", "dog"])
    assert (planned["data"]["train"], planned["data"]["test"], planned["data"]["pixels"]) == (32, 8, [60, 70])
    (phase,) = planned["recipe"]["phases"]
    assert (phase["batch_size"], phase["epochs"], planned["steps"]) == (8, 60, 240)


@pytest.mark.parametrize("layout", ["empty", "loose", "empty classes"])
def test_a_folder_without_class_folders_is_refused(layout, command, pictures):
    """It was passed over for the embedded digits, on which training then began."""
    folder = pictures.parent / layout
    folder.mkdir()
    if layout == "loose":
        (pictures / "cat" / "1.png").rename(folder / "1.png")
    elif layout == "empty classes":
        (folder / "cat").mkdir()
        (folder / "dog").mkdir()
    code, out, err = command("train", "--method", "ovsw", "--data-dir", folder, "--dry-run")
    assert (code, out) == (1, "")
    assert f"{folder} is not an image folder: expected train/<class>/* and val/<class>/*" in err


def test_a_folder_of_tensorflow_datasets_wants_a_name(command, tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{}")
    code, _, err = command("train", "--method", "ovsw", "--data-dir", tmp_path, "--dry-run")
    assert code == 2
    assert f"{tmp_path} holds mnist of TensorFlow Datasets; name it: --dataset NAME" in err


def test_what_is_typed_wins(command, pictures):
    options = ("--batch-size", 4, "--epochs", 3, "--image-size", 48, "--channels", 1)
    planned = plan(command, "--data-dir", pictures, *options)
    (phase,) = planned["recipe"]["phases"]
    assert (phase["batch_size"], phase["epochs"]) == (4, 3)
    assert (planned["recipe"]["images"]["size"], planned["recipe"]["images"]["channels"]) == ([48, 48], 1)


def test_what_does_not_fit_is_said(command, pictures):
    options = ("--data-dir", pictures, "--batch-size", 64, "--image-size", 8, "--dry-run")
    code, out, _ = command("train", "--method", "bireal", *options)
    assert code == 0
    assert "data: 2 classes, 32 + 8 images, 60–70 px, shrunk to 8×8" in out
    assert "One image in 5 of each class is held out for testing." in out
    assert "The batch (64) is larger than the training set (32), so that an epoch is a single step" in out
    assert "The pictures are far larger than what the network sees: try --image-size 16" in out
    assert "--method bireal starts from random weights, for which 32 images are few; --method ovsw" in out


@pytest.mark.parametrize("method", ["recu", "bireal"])
def test_the_fast_recipe_is_chosen_unless_another_is_named(method, command, pictures):
    fast, default, named = (
        plan(command, "--data-dir", pictures, *options, method=method)["recipe"]
        for options in ((), ("--variant", "default"), ("--variant", "fast"))
    )
    assert (fast["variant"], default["variant"]) == ("fast", "default")
    assert fast == named
    assert [phase["epochs"] for phase in fast["phases"]] == [60]
    assert fast["phases"][0]["optimizer"]["name"] == "sgd"


def test_networks_for_large_images_have_no_fast_recipe(command, pictures):
    planned = plan(command, "--data-dir", pictures, "--model", "resnet18")
    assert planned["recipe"]["variant"] == "default"


def test_few_small_pictures_do_not_decide_the_size(command, pictures):
    for path in pictures.glob("*/*.png"):
        side = 40 if path.name == "3.png" else 70
        path.write_bytes(png(np.zeros((side, side, 3), np.uint8)))
    planned = plan(command, "--data-dir", pictures)
    assert (planned["data"]["pixels"], planned["data"]["side"]) == ([40, 70], 70)
    assert planned["recipe"]["images"]["size"] == [64, 64]


def test_damaged_pictures_are_named_before_the_training(command, pictures, tmp_path):
    (pictures / "cat" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (pictures / "dog" / "4.png").write_bytes(b"")
    run = tmp_path / "run"
    code, _, err = command("train", "--method", "recu", "--data-dir", pictures, "--run-dir", run)
    assert code == 1
    assert "2 images cannot be read:" in err
    assert "3.png is a PNG image that is damaged or cut off" in err
    assert f"bnn-tf data check {pictures} lists all such files" in err
    assert not run.exists()


class TestDataCheck:
    def test_a_sound_folder(self, command, pictures):
        code, out, err = command("data", "check", pictures)
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "2 classes, 32 + 8 images, 60–70 px",
            "One image in 5 of each class is held out for testing.",
            "40 images can be used, 0 files cannot",
        ]

    def test_what_a_training_passes_over(self, command, pictures):
        (pictures / "cat" / "0.png").rename(pictures / "cat" / "0.heic")
        (pictures / "dog" / "0.png").rename(pictures / "loose.png")
        code, out, _ = command("data", "check", pictures)
        assert code == 1
        assert "cat/0.heic is an image, but is not named like one (.jpg," in out
        assert "1 image beside the class folders is passed over." in out
        assert "1 file is passed over (.heic)." in out
        assert out.endswith("38 images can be used, 1 file cannot\n")

    @pytest.mark.parametrize("layout", ["empty", "one class"])
    def test_what_a_training_refuses(self, command, pictures, layout):
        folder = pictures / "cat" if layout == "empty" else pictures
        for path in (pictures / "dog").iterdir() if layout == "one class" else folder.iterdir():
            path.unlink()
        (pictures / "dog").rmdir() if layout == "one class" else None
        code, out, _ = command("data", "check", folder)
        assert code == 1
        assert ("is not an image folder" if layout == "empty" else "holds one class only, cat") in out


def test_a_dataset_that_is_absent(command, tmp_path):
    planned = plan(command, "--dataset", "cifar10", "--data-dir", tmp_path)
    assert (planned["data"]["train"], planned["data"]["test"], planned["steps_per_epoch"]) == (
        50_000, 10_000, {"train": 196},
    )  # fmt: skip
    assert len(planned["data"]["class_names"]) == 10


def test_shipped_weights_are_the_start(command, pictures, monkeypatch):
    recipe = {"model_options": {}}
    monkeypatch.setattr("zoo.pretrained.names", lambda: ["cifar_resnet20-recu"])
    monkeypatch.setattr("zoo.pretrained.record", lambda name: {"config": {"recipe": recipe}})
    assert plan(command, "--data-dir", pictures)["init_from"] == "zoo:cifar_resnet20-recu"
    assert plan(command, "--data-dir", pictures, "--channels", 1)["init_from"] is None


def test_a_sub_bit_run_keeps_the_codebooks_that_ship(command, pictures):
    planned = plan(command, "--data-dir", pictures, method="subbit")
    assert planned["init_from"] == "zoo:cifar_resnet20-subbit"
    (phase,) = planned["recipe"]["phases"]
    assert (phase["name"], phase["epochs"]) == ("weights", 60)
    for typed in (("--epochs", 3), ("--set", "weights.epochs=3")):
        (phase,) = plan(command, "--data-dir", pictures, *typed, method="subbit")["recipe"]["phases"]
        assert phase["epochs"] == 3
    planned = plan(command, "--data-dir", pictures, "--channels", 1, method="subbit")
    assert [phase["name"] for phase in planned["recipe"]["phases"]] == ["binary", "weights"]


@pytest.mark.parametrize(
    "typed",
    [
        ("--method", "ovsw"),
        ("--method", "subbit"),
        ("--method", "subbit", "--epochs", "3"),
        ("--method", "subbit", "--set", "epochs=3"),
        ("--method", "subbit", "--set", "weights.epochs=3"),
        ("--method", "recu", "--channels", "1"),
        ("--recipe", "recipe.json"),
        ("--recipe", "recipe.json", "--precision", "float32"),
    ],
)
def test_a_sweep_trains_what_train_does(typed, command, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ("--method", "ovsw", "--precision", "bfloat16", "--checkpoint-every", "30s")
    Path("recipe.json").write_text(command("train", *line, "--dry-run", "--json")[1])
    monkeypatch.setattr(sweep, "work", lambda *_: iter(()))
    code, out, err = command("train", *typed, "--data-dir", pictures, "--dry-run", "--json")
    assert (code, err) == (0, "")
    code, _, err = command("sweep", *typed, "--data-dir", pictures, "--sweep-dir", "sweep")
    assert (code, err) == (0, "")
    (task,) = json.loads(Path("sweep/sweep.json").read_text())["tasks"]
    planned = json.loads(out)
    assert task["config"] == {key: planned[key] for key in task["config"]}
    if "subbit" in typed:
        assert (planned["init_from"], len(planned["recipe"]["phases"])) == ("zoo:cifar_resnet20-subbit", 1)
        assert planned["recipe"]["phases"][0]["epochs"] == (60 if len(typed) == 2 else 3)


def test_a_value_of_a_sweep_is_as_if_it_was_typed(command, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "work", lambda *_: iter(()))
    axes = ("--grid", "method=subbit,ovsw", "--grid", "epochs=3,4")
    code, _, err = command("sweep", *axes, "--data-dir", pictures, "--sweep-dir", tmp_path / "sweep")
    assert (code, err) == (0, "")
    for task in json.loads((tmp_path / "sweep" / "sweep.json").read_text())["tasks"]:
        method, epochs = task["choices"]["method"], task["choices"]["epochs"]
        planned = plan(command, "--data-dir", pictures, "--epochs", epochs, method=method)
        assert task["config"] == {key: planned[key] for key in task["config"]}
        assert planned["init_from"] == f"zoo:cifar_resnet20-{method}"
