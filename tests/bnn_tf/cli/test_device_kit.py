"""`bnn-tf device-kit`, and its folder on a machine that has no bnn-tf."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.cli import app
from bnn_tf.cli.target import Target
from bnn_tf.deploy import Interpreter


@pytest.fixture
def kit(command, trained, tmp_path) -> Path:
    """The kit of the trained run."""
    code, out, err = command("device-kit", trained, "-o", tmp_path / "kit", "--images", "60")
    assert (code, err) == (0, "")
    assert "expected for the reference image: " in out
    return tmp_path / "kit"


def site(folder: Path, *names: str) -> Path:
    """A folder of packages that holds only these of ours, or with none all but bnn-tf."""
    folder.mkdir()
    for entry in Path(np.__file__).parents[1].iterdir():
        if entry.name in names or not names and "bnn_tf" not in entry.name and entry.name != "zoo":
            (folder / entry.name).symlink_to(entry)
    return folder


def alone(kit: Path, packages: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs Python in the kit with no packages but those."""
    return subprocess.run(
        [sys.executable, "-S", *arguments], capture_output=True, text=True, cwd=kit, check=False,
        env={"PYTHONPATH": str(packages), "PATH": ""},
    )  # fmt: skip


def test_preprocessing_needs_numpy_alone(kit, tmp_path):
    there = Path(shutil.copytree(kit, tmp_path / "elsewhere"))
    packages = site(tmp_path / "site", "numpy", "numpy.libs")
    for name in ("bnn_tf", "zoo", "tensorflow"):
        assert "ModuleNotFoundError" in alone(there, packages, "-c", f"import {name}").stderr
    done = alone(there, packages, "preprocess.py", "reference_image.npy", "-o", "found.npy")
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(there / "found.npy"), np.load(kit / "reference_input.npy"))


@pytest.mark.slow
def test_the_expected_output_is_reproduced_without_bnn_tf(kit, tmp_path):
    there = Path(shutil.copytree(kit, tmp_path / "elsewhere"))
    packages = site(tmp_path / "site")
    for name in ("bnn_tf", "zoo"):
        assert "ModuleNotFoundError" in alone(there, packages, "-c", f"import {name}").stderr
    done = alone(there, packages, "predict.py", "-o", "found.bin")
    assert done.returncode == 0, done.stderr
    best = json.loads((kit / "expected.json").read_text())["top"][0]
    assert f"  {best['label']}  (class {best['class']}, output" in done.stdout.splitlines()[0]
    compared = alone(there, packages, "compare.py", "found.bin")
    assert compared.returncode == 0, compared.stdout
    assert "AGREES" in compared.stdout


def test_it_holds_what_convert_writes_and_the_run_knows(command, kit, trained):
    assert (kit / "labels.txt").read_text().split() == list("0123456789")
    assert command("convert", trained)[0] == 0
    inputs, expected = np.load(kit / "reference_input.npy"), np.load(kit / "expected_output.npy")
    np.testing.assert_array_equal(Interpreter(trained / "model.tflite").predict(inputs), expected)
    rule = json.loads((kit / "preprocessing.json").read_text())
    assert (rule["crop"], rule["mean"]) == ([8, 8], [0.5, 0.5, 0.5])


def test_json_and_a_converted_file(command, trained, tmp_path):
    assert command("convert", trained, "-o", tmp_path / "own.tflite", "--images", "20")[0] == 0
    code, out, _ = command(
        "device-kit",
        trained,
        "--tflite",
        tmp_path / "own.tflite",
        "-o",
        tmp_path / "kit",
        "--json",
        "--images",
        5,
    )
    printed = json.loads(out)
    assert code == 0
    assert printed["size"] == (tmp_path / "own.tflite").stat().st_size
    assert len(printed["top"]) == 5
    assert printed["spread"] < 1
    assert (tmp_path / "kit" / "model.tflite").read_bytes() == (tmp_path / "own.tflite").read_bytes()


def test_int8_input_and_output(command, trained, tmp_path):
    """The kit feeds a file that takes and gives int8 what it takes, and reads what it gives."""
    code, _, err = command(
        "convert", trained, "-o", tmp_path / "int8.tflite", "--images", 20,
        "--int8", "mixed", "--int8-input", "--int8-output",
    )  # fmt: skip
    assert (code, err) == (0, "")
    arguments = ("device-kit", trained, "--tflite", tmp_path / "int8.tflite", "--images", 8)
    code, out, err = command(*arguments, "-o", tmp_path / "kit")
    assert (code, err) == (0, "")
    assert "differs from Keras by" in out
    inputs = np.load(tmp_path / "kit" / "reference_input.npy")
    assert inputs.dtype == np.int8
    actual = Interpreter(tmp_path / "int8.tflite").predict(inputs)
    np.testing.assert_array_equal(actual, np.load(tmp_path / "kit" / "expected_output.npy"))


def test_class_names(command, trained, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"number {digit}" for digit in range(10)) + "\n")
    arguments = ("device-kit", trained, "-o", tmp_path / "kit", "--images", 4)
    assert command(*arguments, "--class-names", tmp_path / "names.txt")[0] == 0
    assert (tmp_path / "kit" / "labels.txt").read_text().splitlines()[3] == "number 3"
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    code, _, err = command(*arguments, "--force", "--class-names", tmp_path / "names.txt")
    assert code == 1
    assert "--class-names gives 2 names, the network has 10 outputs" in err


def test_a_saved_model_with_its_dataset(command, tiny, tmp_path):
    tiny().save(tmp_path / "model.keras")
    arguments = ("device-kit", tmp_path / "model.keras", "-o", tmp_path / "kit", "--images", 20)
    assert command(*arguments)[0] == 2  # nothing is known of its images
    assert not (tmp_path / "kit").exists()
    code, _, _ = command(*arguments, "--dataset", "digits", "--normalization", "unit")
    assert code == 0
    assert (tmp_path / "kit" / "labels.txt").read_text().split() == list("0123456789")


@pytest.fixture
def without_lce(monkeypatch):
    """Larq Compute Engine seems not to be installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name.startswith("larq_compute_engine") else find(name, *rest),
    )


def test_without_larq_compute_engine_the_c_program_is_written(command, trained, tmp_path, without_lce):
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "model.tflite").write_bytes(b"of another network")
    code, out, err = command("device-kit", trained, "-o", kit, "--images", 20, "--force")
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("without ")]
    assert len(lines) == 1
    assert "without model.tflite and the scripts that run it: Larq Compute Engine" in lines[0]
    assert "differs from Keras" not in out
    names = {path.name for path in kit.iterdir()}
    assert {"net.c", "Makefile", "index.html", "compare.py", "reference_image.ppm"} <= names
    assert not names & {"model.tflite", "predict.py", "run_lce_on_pi.sh", "run_lce_on_android.sh"}
    assert "made without Larq Compute Engine" in (kit / "README.md").read_text()
    assert json.loads((kit / "expected.json").read_text())["computed_by"].startswith("Keras")
    expected = Target.open(trained).predict()(np.load(kit / "reference_input.npy"))
    np.testing.assert_array_equal(np.load(kit / "expected_output.npy"), expected)


def test_without_larq_compute_engine_a_c_program_or_nothing(capsys, tmp_path, without_lce):
    image = tf.keras.Input((8, 8, 3))
    rows = tf.keras.layers.Dense(10)(tf.keras.layers.Flatten()(image))
    tf.keras.Model(image, tf.cumsum(rows, axis=-1)).save(tmp_path / "model.keras")
    options = ["--dataset", "digits", "--normalization", "unit", "--images", "4"]
    # Not by the fixture `command`, which skips what needs Larq Compute Engine.
    code = app.run(["device-kit", str(tmp_path / "model.keras"), "-o", str(tmp_path / "kit"), *options])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert "no kit was written: it has no C program (" in err
    assert "pip install larq-compute-engine" in err
    assert not (tmp_path / "kit").exists()


def test_a_folder_that_holds_something(command, trained, tmp_path):
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "notes.txt").write_text("mine")
    (tmp_path / "kit" / "labels.txt").write_text("old")
    code, out, err = command("device-kit", trained, "-o", tmp_path / "kit")
    assert (code, out) == (1, "")
    assert "kit is not empty; name another folder with -o, or add --force" in err
    assert command("device-kit", trained, "-o", tmp_path / "kit", "--force", "--images", 20)[0] == 0
    assert (tmp_path / "kit" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "kit" / "labels.txt").read_text() != "old"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run",), 2, "'-o'"),
        (("nothing", "-o", "kit"), 1, "there is no run and no model at nothing"),
        (("run", "-o", "text"), 1, "text is a file, not a folder; name another folder"),
        (("run", "-o", "kit", "--tflite", "nothing"), 2, "nothing"),
        (("run", "-o", "kit", "--tflite", "text"), 1, "text"),
        (
            ("run", "-o", "kit", "--tflite", "other.tflite"),
            1,
            "gives outputs of shape (7,), the network (10,)",
        ),
    ],
)
def test_what_makes_no_kit(command, trained, tiny, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    trained.rename("run")
    Path("text").write_text("not a folder and not a model")
    if "other.tflite" in arguments:
        tiny(num_classes=7).save("other.keras")
        assert command("convert", "other.keras", "-o", "other.tflite")[0] == 0
    exit_code, out, err = command("device-kit", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("kit").exists()
