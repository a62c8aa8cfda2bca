"""The source distribution, the wheel made from it, and that wheel in an environment of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("bnn_tf", "zoo", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")


def run(*command, cwd, **variables):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def build(kind, folder, target):
    """Builds a `sdist` or a `wheel` of the project in a folder."""
    code = f"import sys; from setuptools import build_meta as b; print(b.build_{kind}(sys.argv[1]))"
    return target / run(sys.executable, "-c", code, target, cwd=folder).split()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment with the wheel; what it depends on comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("package")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        source, copy = ROOT / name, checkout / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    with tarfile.open(build("sdist", checkout, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheel = build("wheel", unpacked, folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    place = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    Path(place, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


def test_commands_run(installed, tmp_path):
    run_in = {"cwd": tmp_path, "PYTHONPATH": ""}
    assert "bnn-tf 0." in run(installed / "bnn-tf", "--version", **run_in)
    assert "cifar_resnet20" in run(installed / "bnn-tf", "models", **run_in)
    assert "recu" in run(installed / "bnn-tf", "recipes", **run_in)


def test_data_files_are_inside(installed, tmp_path):
    code = (
        "import pathlib, bnn_tf; folder = pathlib.Path(bnn_tf.__file__).parent; "
        "print(*sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()))"
    )
    there = set(run(installed / "python", "-c", code, cwd=tmp_path, PYTHONPATH="").split())
    tracked = run("git", "ls-files", "bnn_tf", cwd=ROOT).split() if (ROOT / ".git").exists() else []
    assert {
        "data/digits.npz",
        "report/page.html.j2",
        "cli/models.json",
        "subbit/expand.c",
        "py.typed",
    } <= there
    missing = {name.removeprefix("bnn_tf/") for name in tracked} - there
    assert not missing
