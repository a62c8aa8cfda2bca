"""`bnn-tf export`."""

import json
from pathlib import Path

import pytest

from bnn_tf.export import check


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
def test_writes_and_checks_a_run(command, trained):
    code, out, err = command("export", trained, "--images", 8, "--header")
    assert code == 0, err
    assert "flash:" in out
    assert "layer by layer" in out
    assert f"cc -O3 -march=native -ffp-contract=off -DMODEL_MAIN {trained}/model.c -o model -lm" in out
    assert "int model_run(" in (trained / "model.c").read_text()
    assert (trained / "model.h").is_file()


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
def test_json_says_that_the_layers_agree(command, trained, tmp_path):
    printed = json.loads(command("export", trained, "-o", tmp_path / "x.c", "--images", 8, "--json")[1])
    assert printed["proof"]["difference"] is None
    assert printed["parity"]["layers_agree"] is True


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
def test_random_weights_classify_nothing_worth_printing(command, tiny, tmp_path):
    code, out, err = command("export", "tiny", "-o", tmp_path / "x.c")
    assert (code, err) == (0, "")
    assert "layer by layer: " in out
    assert "classified alike" not in out


def test_the_figures_of_the_documentation(command, tmp_path):
    out = command("export", "zoo:cifar_resnet20-ovsw", "-o", tmp_path / "net.c", "--no-check")[1]
    page = Path(__file__).parents[3] / "docs" / "export.md"
    assert out.splitlines()[1] in page.read_text().splitlines()


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
def test_int8_weights(command, trained, tmp_path):
    code, out, err = command("export", trained, "-o", tmp_path / "x.c", "--images", 8, "--int8-weights")
    assert code == 0, err
    assert "rounding to int8: " in out
    assert "agreement with Keras with kernels in int8: 100.00%" in out


def test_the_program_does_not_get_the_name_of_a_folder(command, trained, tmp_path, monkeypatch):
    """A run is a folder, and its file is mostly named as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    code, out, _ = command("export", trained, "-o", "mine.c", "--no-check")
    assert code == 0
    assert "-DMINE_MAIN mine.c -o mine_main -lm" in out


def test_json_and_a_name(command, trained, tmp_path):
    code, out, _ = command(
        "export", trained, "-o", tmp_path / "x.c", "--name", "mine", "--no-check", "--json"
    )
    assert code == 0
    assert json.loads(out)["name"] == "mine"
    assert "int mine_run(" in (tmp_path / "x.c").read_text()


@pytest.mark.parametrize("name", ["config.json", "metrics.csv"])
def test_files_of_a_run_are_kept(name, command, trained):
    before = (trained / name).read_bytes()
    code, _, err = command("export", trained, "-o", trained / name, "--no-check")
    assert code == 2
    assert "belongs to the run in that folder" in err
    assert (trained / name).read_bytes() == before


def test_what_is_read_is_not_written(command, tiny, tmp_path):
    tiny().save(tmp_path / "model.keras")
    before = (tmp_path / "model.keras").read_bytes()
    code, _, err = command("export", tmp_path / "model.keras", "-o", tmp_path / "model.keras", "--no-check")
    assert code == 2
    assert "is what is read" in err
    assert (tmp_path / "model.keras").read_bytes() == before


def test_needs_a_file_to_write(command, trained, tmp_path):
    assert command("export", trained, "-o", tmp_path / "none" / "x.c")[0] == 2


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
def test_writes_and_checks_a_converted_file(command, trained, tmp_path):
    path = tmp_path / "model.tflite"
    assert command("convert", trained, "-o", path)[0] == 0
    code, out, err = command("export", path, "-o", tmp_path / "net.c", "--images", 8)
    assert code == 0, err
    assert "agreement with LCE's interpreter" in out
    assert command("export", trained, "-o", tmp_path / "run.c", "--name", "net", "--no-check")[0] == 0
    labels = [
        (tmp_path / name).read_text().split("class_names[] = {")[1].split("net_run")[0]
        for name in ("net.c", "run.c")
    ]
    assert labels[0] == labels[1]  # names, mean and deviation
    assert command("export", path)[0] == 2  # where to write is not said
