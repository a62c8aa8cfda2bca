"""The command line in this process, and a small run for commands to work on."""

import shutil
from pathlib import Path

import pytest

from bnn_tf import cli
from bnn_tf.deploy.lce_file import NOT_INSTALLED, is_installed

TINY = (
    "--model",
    "tiny",
    "--dataset",
    "digits",
    "--set",
    "image_size=8,8",
    "--limit",
    "48",
    "--batch-size",
    "16",
)


@pytest.fixture
def command(capsys):
    """`command("train", …)` runs the command line and returns exit code, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        if NOT_INSTALLED in err and not is_installed():
            pytest.skip("Larq Compute Engine is not installed")
        return stopped.value.code, out, err

    return run


@pytest.fixture
def tiny_options(tiny):
    """Options of `train` for the tiny network on a few digits."""
    return TINY


@pytest.fixture(scope="session")
def _cache():
    return {}


@pytest.fixture
def trained(_cache, tiny, tmp_path_factory, tmp_path, capsys) -> Path:
    """A copy of a run of two epochs that the command line trained, of a binary network."""
    if "run" not in _cache:
        run = tmp_path_factory.mktemp("trained") / "run"
        with pytest.raises(SystemExit) as stopped:
            cli.main(["train", "--method", "bireal", *TINY, "--epochs", "2", "--run-dir", str(run)])
        assert stopped.value.code == 0
        _cache["run"], _cache["said"] = run, capsys.readouterr()
    return Path(shutil.copytree(_cache["run"], tmp_path / "trained"))


@pytest.fixture
def said(trained, _cache):
    """What the training of `trained` printed."""
    return _cache["said"]
