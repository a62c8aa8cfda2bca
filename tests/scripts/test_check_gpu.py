"""The script that checks a GPU, as far as that can be tried without one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import click
import click.testing
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("device", "already", "visible"),
    [
        ("CPU:0", None, "-1"),
        ("CPU:0", "0,1", "-1"),
        ("GPU:0", None, "0"),
        ("GPU:1", "", "1"),
        ("GPU:1", "4,7", "7"),
    ],
)
def test_trainings_see_one_device(script, device, already, visible):
    assert script.visible_devices(device, already) == visible


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--steps 1", "1 is not in the range"),
        ("--batch-size 0", "0 is not in the range"),
        ("--device CPU:0 --methods birael", "there is no method called 'birael'; did you mean 'bireal'?"),
        ("--device GPU:9", "sees no GPU:9"),
    ],
)
def test_mistakes_are_said_in_a_line(script, arguments, message):
    result = click.testing.CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_training_that_nothing_stopped_is_no_success(script, tmp_path, monkeypatch):
    """It would be compared with itself."""

    class Ended:
        stdout, returncode = ("train 1/3  test accuracy 10 %\n", "train 2/3  test accuracy 10 %\n"), 0

        def __init__(self, *_, **__):
            pass

        def wait(self):
            return self.returncode

    monkeypatch.setattr(script.subprocess, "Popen", Ended)
    with pytest.raises(click.ClickException, match="ended with 0 and not with 143"):
        script.resumes("bireal", "CPU:0", tmp_path)


@pytest.mark.slow
def test_all_of_it_on_the_cpu():
    options = ("--device", "CPU:0", "--methods", "bireal", "--batch-size", "8", "--steps", "2", "--json")
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumes_bit_for_bit"] == {"bireal": True}
