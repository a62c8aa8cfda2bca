"""Every block of code in the README and the documentation runs.

The blocks of a page run in order, in one folder; its Python blocks share one namespace. A comment before a
block says what it needs: `<!-- slow -->` (minutes), `<!-- needs: cifar10 -->` (a prepared dataset),
`<!-- not run: why -->` (a device, another machine). Blocks fenced as `text` or `console` show output and are
not run. Every `bnn-tf` command line, run or not, must at least be one that the program accepts.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "EXTENDING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]+?) -->\n+)?^```(?P<language>sh|python)\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Mark, language and text of each block of a page."""
    matches = _BLOCK.finditer(page.read_text())
    return [(match["mark"] or "", match["language"], match["text"]) for match in matches]


def command_lines() -> list[tuple[str, str]]:
    """Every `bnn-tf …` line of every page, with the page's name."""
    return [
        (page.name, line)
        for page in PAGES
        for _, language, text in blocks(page)
        if language == "sh"
        for line in text.replace("\\\n", " ").splitlines()
        if line.startswith("bnn-tf ")
    ]


def program(page: Path, marks: tuple[str, ...]) -> str:
    """One Python program of the blocks whose mark is among `marks`; it calls a shell for the others."""
    parts = ["import subprocess as _subprocess"]
    for mark, language, text in blocks(page):
        if mark.startswith("not run") or mark not in marks:
            continue
        shell = f"_subprocess.run(['bash', '-eu', '-c', {text!r}], check=True)"
        parts.append(text if language == "python" else shell)
    return "\n".join(parts)


def run(page: Path, marks: tuple[str, ...], folder: Path) -> None:
    """Runs the blocks of a page in `folder`."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir()
    for name, arguments in (("python", ""), ("bnn-tf", "-m bnn_tf")):
        command = bin_folder / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        command.chmod(0o755)
    environment = {"PATH": f"{bin_folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program(page, marks)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def with_marks(*marks: str) -> list[Path]:
    """The pages that have a block with one of the marks."""
    return [page for page in PAGES if any(mark in marks for mark, _, _ in blocks(page))]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda value: value[:60])
def test_command_lines_are_accepted(page, line):
    from bnn_tf import cli

    arguments = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    if "--help" in arguments or "--version" in arguments:
        return
    context = cli.cli.make_context("bnn-tf", list(arguments))
    name, command, rest = cli.cli.resolve_command(context, arguments)
    command.make_context(name, rest, parent=context)


def test_options_that_tables_of_the_migration_page_give_are_accepted():
    """Their right columns say how to train; a setting must be one of the recipe's for that section."""
    from bnn_tf import cli
    from bnn_tf.cli import options

    page = (ROOT / "docs" / "migration.md").read_text()
    methods = {"All": "recu", "Bi-Real": "bireal", "ReCU": "recu", "SNN": "subbit", "OvSW": "ovsw"}
    train = cli.cli.get_command(None, "train")
    checked = 0
    for section in page.split("\n### ")[1:-1]:
        method = next(method for name, method in methods.items() if section.startswith(name))
        for row in re.findall(r"^\|.*\| (.*) \|$", section, re.MULTILINE):
            for text in re.findall(r"`(--[^`]* [^`]*)`", row):
                typed = shlex.split(text)
                context = train.make_context("train", ["--method", method, "--dataset", "cifar10", *typed])
                options.recipe(context, context.params)
                checked += 1
    assert checked > 50


@pytest.mark.sample(2)
@pytest.mark.parametrize("page", with_marks(""), ids=page_name)
def test_quick_blocks_run(page, tmp_path):
    run(page, ("",), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_marks("slow"), ids=page_name)
def test_slow_blocks_run(page, tmp_path):
    run(page, ("", "slow"), tmp_path)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Its cells in order, except that which installs; each result has a short form."""
    cells = json.loads((ROOT / "docs" / "tutorials" / "notebook.ipynb").read_text())["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    script = ["def show(value):", "    assert value is None or 0 < len(value._repr_html_()) < 100_000"]
    for text in codes:
        if text.startswith("%pip"):
            continue
        *body, last = ast.parse(text).body
        if isinstance(last, ast.Expr):
            call = ast.Call(ast.Name("show", ast.Load()), [last.value], [])
            last = ast.copy_location(ast.Expr(call), last)
        script.append(ast.unparse(ast.fix_missing_locations(ast.Module([*body, last], []))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert {"digits.tflite", "digits.c"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", with_marks("needs: cifar10"), ids=page_name)
def test_blocks_on_cifar10_run(page, tmp_path, shared):
    (tmp_path / "data").symlink_to(shared / "tfds")
    run(page, ("", "slow", "needs: cifar10"), tmp_path)
