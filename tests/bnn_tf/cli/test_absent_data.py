"""Commands on a machine that has the network, but not the dataset that it was trained on."""

import json

import pytest

from bnn_tf import data
from bnn_tf.cli.target import Target
from bnn_tf.export import check
from zoo import pretrained

SAYS = "24 random images are used: "


@pytest.fixture
def homeless(trained, tmp_path):
    """A run whose dataset is not where it was, nor to be downloaded."""
    path = trained / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["dataset"] = "cifar10"
    config["data_dir"] = str(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    path.write_text(json.dumps(config))
    return trained


def test_convert_compares_on_random_images(command, homeless):
    code, out, err = command("convert", homeless, "--images", 24, "--json")
    assert code == 0, err
    printed = json.loads(out)
    assert printed["compared_on"] == "random images"
    assert printed["parity"]["images"] == 24
    assert printed["parity"]["agreement"] >= 0.95
    assert err.startswith(f"{SAYS}the dataset cifar10 is not in ")
    assert len(err.splitlines()) == 1
    record = json.loads((homeless / "conversion.json").read_text())
    assert record["agreement"].endswith(", compared on random images")
    assert json.loads((homeless / "model.tflite.json").read_text())["dataset"] == "cifar10"


@pytest.mark.parametrize("arguments", [("--data-dir", "{}"), ("--dataset", "cifar10", "--data-dir", "{}")])
def test_who_names_the_images_gets_those_or_none(command, homeless, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    named = [argument.format(tmp_path / "empty") for argument in arguments]
    code, out, err = command("convert", homeless, *named)
    assert (code, out) == (1, "")
    assert "the dataset cifar10 is not in " in err
    assert "check the network, or say in which folder it is with --data-dir DIR (prepared by" in err
    assert "random" not in err
    assert not (homeless / "model.tflite").exists()


def test_damaged_images_are_not_replaced_by_random_ones(command, homeless, tmp_path):
    (tmp_path / "empty" / "train" / "cat").mkdir(parents=True)
    code, out, err = command("convert", homeless)
    assert (code, out) == (1, "")
    assert "holds one class only, cat" in err
    assert "random" not in err


def test_a_folder_that_is_gone_counts_as_absent(command, homeless, tmp_path):
    (tmp_path / "empty").rmdir()
    code, _, err = command("convert", homeless, "--images", 24)
    assert code == 0, err
    assert err == f"{SAYS}the data directory {tmp_path / 'empty'} does not exist.\n"


def test_a_folder_that_nobody_named(homeless, capsys):
    path = homeless / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["dataset"], config["data_dir"] = "folder", None
    path.write_text(json.dumps(config))
    assert Target.open(homeless).images().samples(24)[1] is None
    err = capsys.readouterr().err
    assert err.startswith(SAYS)
    assert err.endswith(", or <class>/* alone.\n")


def test_ranges_are_not_measured_on_random_images(command, homeless, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    code, out, err = command("convert", homeless, "--int8")
    assert (code, out) == (1, "")
    assert "cannot be reached to download it" in err
    assert len(err.splitlines()) == 1


def _no_network(*_, **__):
    raise OSError("no network")


def test_device_kit(command, homeless, tmp_path):
    code, out, err = command("device-kit", homeless, "-o", tmp_path / "kit", "--images", 24)
    assert code == 0, err
    assert err.startswith(SAYS)
    assert "expected for the reference image: " in out
    kit = tmp_path / "kit"
    assert (kit / "labels.txt").read_text().split() == list("0123456789")


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
def test_export(command, homeless):
    code, _, err = command("export", homeless, "--images", 24)
    assert code == 0, err
    assert err.startswith(SAYS)
    assert (homeless / "model.c").is_file()


@pytest.mark.slow
def test_benchmark(command, homeless):
    code, _, err = command(
        "benchmark", homeless, "--compare", "--threads", 1, "--rounds", 1, "--runs", 1,
        "--calibration-images", 24,
    )  # fmt: skip
    assert code == 0, err
    assert SAYS in err


def test_lint_and_summary_need_no_data(command, homeless):
    assert command("lint", homeless)[::2] == (0, "")
    assert command("summary", homeless)[::2] == (0, "")


@pytest.fixture
def nowhere(monkeypatch):
    """A machine without any dataset."""

    def absent(dataset, data_dir=None, *, download=True, limit=None):
        assert not download
        raise data.AbsentError(f"the dataset {dataset} is not here")

    monkeypatch.setattr(data, "load", absent)


@pytest.mark.parametrize("name", pretrained.names())
def test_images_for_what_comes_with_the_package(nowhere, capsys, name):
    images = Target.open(f"zoo:{name}").images()
    pixels, source = images.samples(24)
    assert (pixels.shape, pixels.dtype, source) == ((24, *images.pre().input_shape), "uint8", None)
    assert capsys.readouterr().err == f"{SAYS}the dataset {images.dataset} is not here.\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.names())
def test_what_comes_with_the_package_converts(command, tmp_path, nowhere, name):
    code, out, err = command("convert", f"zoo:{name}", "-o", tmp_path / "model.tflite", "--images", 24)
    assert code == 0, err
    assert err.startswith(SAYS)
    assert err.endswith(" is not here.\n")
    assert "binary convolutions: 18 of 18 as LceBconv2d" in out
    assert command("lint", f"zoo:{name}")[::2] == (0, "")
