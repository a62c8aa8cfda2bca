"""`bnn-tf train` on a folder of pictures: what it finds, what it chooses, what it warns of."""

import json

import numpy as np
import pytest

from bnn_tf.report.page import png


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


def plan(command, *options):
    code, out, err = command("train", "--method", "recu", *options, "--dry-run", "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_folder_of_class_folders_needs_no_dataset(command, pictures):
    planned = plan(command, "--data-dir", pictures)
    assert (planned["recipe"]["dataset"], planned["data"]["class_names"]) == ("folder", ["cat", "dog"])
    assert (planned["data"]["train"], planned["data"]["test"], planned["data"]["pixels"]) == (32, 8, [60, 70])
    (phase,) = planned["recipe"]["phases"]
    assert (phase["batch_size"], phase["epochs"], planned["steps"]) == (8, 60, 240)


def test_what_is_typed_wins(command, pictures):
    options = ("--batch-size", 4, "--epochs", 3, "--image-size", 48, "--channels", 1)
    planned = plan(command, "--data-dir", pictures, *options)
    (phase,) = planned["recipe"]["phases"]
    assert (phase["batch_size"], phase["epochs"]) == (4, 3)
    assert (planned["recipe"]["images"]["size"], planned["recipe"]["images"]["channels"]) == ([48, 48], 1)


def test_what_does_not_fit_is_said(command, pictures):
    options = ("--data-dir", pictures, "--batch-size", 64, "--image-size", 8, "--dry-run")
    code, out, _ = command("train", "--method", "recu", *options)
    assert code == 0
    assert "data: 2 classes, 32 + 8 images, 60–70 px, shrunk to 8×8" in out
    assert "One step is all of an epoch: a batch holds 64 images, there are 32 to train on" in out
    assert "The pictures are far larger than what the network sees: try --image-size 16" in out


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
