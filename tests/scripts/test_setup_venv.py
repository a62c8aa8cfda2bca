"""Which Python the environment of the checkout is made with."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup-venv"


@pytest.fixture
def setup(tmp_path):
    """Runs the script where the given programs, as lines of shell, are all but the usual tools."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / "setup.cfg").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "cat", "cmp", "dirname", "env"):
        (tools / name).symlink_to(shutil.which(name))

    def run(**programs):
        for name, line in programs.items():
            (tools / name).write_text(f"#!/bin/sh\n{line}\n")
            (tools / name).chmod(0o755)
        command = [tmp_path / "scripts" / "setup-venv", "test"]
        return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)

    return run


NEWER = "exit 1"  # what any other Python answers when it is asked for its version


def test_a_newer_python_alone_is_refused_with_the_remedy(setup):
    done = setup(python3=NEWER)
    assert done.returncode == 1
    assert "needs Python 3.10, 3.11 or 3.12" in done.stderr
    assert "install uv" in done.stderr


def test_uv_fetches_one(setup, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\nexit 1\n')
    mine.chmod(0o755)
    done = setup(python3=NEWER, uv=f'[ "$2" = install ] || echo {mine}')
    assert "Installing into .venv" in done.stdout
    assert (tmp_path / "called").read_text() == "-m venv .venv\n"


def test_what_uv_says_is_shown(setup):
    done = setup(python3=NEWER, uv="echo 'no network' >&2; exit 2")
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert "needs Python 3.10, 3.11 or 3.12" in done.stderr
