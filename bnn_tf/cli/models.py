"""`bnn-tf models`."""

import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.errors import UsageError, unknown

FACTS = Path(__file__).with_name("models.json")
"""What `scripts/make_model_table.py` counted of every network, so that listing them needs no TensorFlow."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda value, part: str(part) in str(value),
}
_CONDITION = re.compile(r"\s*(\.?\w[\w -]*?)\s*(<=|>=|!=|==|=|<|>|~)\s*(.+?)\s*")
# Key of a fact, title of its column, how it is shown.
_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("model", "model", str),
    ("input", "input", lambda size: f"{size}²"),
    ("parameters", "parameters", lambda count: f"{count / 1e6:.2f} M"),
    ("binary_share", "binary", lambda share: f"{share:.1%}"),
    ("megabytes", "packed", lambda size: f"{size:.2f} MB"),
    (
        "tflite_bytes",
        ".tflite",
        lambda size: f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB",
    ),
    ("real_macs", "real MMAC", lambda count: f"{count / 1e6:.1f}"),
    ("binary_macs", "binary MMAC", lambda count: f"{count / 1e6:.1f}"),
    ("arm_instructions", "ARM instructions", lambda count: f"{count / 1e6:.1f} M"),
    ("paper_top1", "best paper top-1", lambda top1: f"{100 * top1:g} %"),
    ("zoo_top1", "zoo top-1", lambda top1: ", ".join(f"{value:.1%}".replace("%", " %") for value in top1)),
    ("recipes", "recipes", lambda names: _grouped(names)),
)
_KEYS = [key for key, _, _ in _COLUMNS]
_TITLES = {title: key for key, title, _ in _COLUMNS} | {"tflite": "tflite_bytes"}
_ACCURACIES = ("paper_top1", "zoo_top1")
_IN_MILLIONS = ("real MMAC", "binary MMAC", ".tflite", "tflite")
# What decides whether a network fits a device stays longest: its file, the images it takes, and its work.
_SPARE = (
    *("recipes", "ARM instructions", "packed", "binary", "zoo top-1", "parameters", "best paper top-1"),
    *("real MMAC", "binary MMAC", "input"),
)


@options.command()
@click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    shell_complete=options.choices(_KEYS),
    help="Show only some: input=32, 'tflite<1' (MB), model~cifar, recipes=recu. May be given several times.",
)
@click.option(
    "--sort",
    metavar="KEY",
    shell_complete=options.choices(_KEYS),
    help="Sort by a column; -KEY puts the largest first.",
)
@options.json_option
def models(conditions: tuple[str, ...], sort: str | None, as_json: bool) -> None:
    """List the architectures with what decides between them.

    Keys: model, input (height = width), parameters, binary_share (of the parameters), megabytes (binary
    weights as bits, others as float32), tflite_bytes (of the converted file; tflite: in MB), real_macs,
    binary_macs, arm_instructions (of one inference on a Cortex-A72, counted under emulation, where known),
    paper_top1, zoo_top1 (of weights that come with the package), recipes (method:dataset). Accuracies and
    binary_share are shares in --json; --filter takes percents, too (zoo_top1>80). The titles of the columns
    do as well. Counts are those of the default method and number of classes. --json has all of them,
    and each network's function.
    """
    checks = [_condition(text) for text in conditions]
    rows = [row for row in _rows() if all(holds(row) for holds in checks)]
    if sort is not None:
        key = _key(sort.removeprefix("-"))
        known = [row for row in rows if row[key] is not None]
        known.sort(key=lambda row: row[key], reverse=sort.startswith("-"))
        rows = known + [row for row in rows if row[key] is None]
    if as_json:
        options.emit(rows, True, "")
        return
    shown = [["" if row[key] in (None, []) else form(row[key]) for key, _, form in _COLUMNS] for row in rows]
    options.print_table([title for _, title, _ in _COLUMNS], shown, spare=_SPARE)


def _grouped(names: list[str]) -> str:
    """`method:dataset` pairs in fewer words: methods that have the same datasets stand together."""
    by_method: dict[str, list[str]] = {}
    for name in names:
        method, _, dataset = name.partition(":")
        by_method.setdefault(method, []).append(dataset)
    by_datasets: dict[str, list[str]] = {}
    for method, datasets in by_method.items():
        by_datasets.setdefault(" ".join(sorted(datasets)), []).append(method)
    return "; ".join(f"{' '.join(methods)}: {datasets}" for datasets, methods in by_datasets.items())


def _rows() -> list[dict[str, Any]]:
    """A row for every registered network; facts of those that nobody counted are None."""
    import zoo
    from zoo import pretrained
    from zoo.recipes import RECIPES

    records = [pretrained.record(name) for name in pretrained.names()]
    counted = json.loads(FACTS.read_text())
    rows = []
    for name in zoo.list_models():
        own = [recipe for recipe in RECIPES if recipe.model == name]
        facts = counted.get(name, {})
        top1 = [recipe.published_top1 for recipe in own if recipe.published_top1 is not None]
        row = {"model": name, **{key: facts.get(key) for key in _KEYS[1:]}}
        row["paper_top1"] = max(top1, default=None)
        shipped = [r["accuracy"]["keras"] for r in records if r["config"]["recipe"]["model"] == name]
        row["zoo_top1"] = sorted((round(accuracy, 6) for accuracy in shipped), reverse=True) or None
        row["recipes"] = list(dict.fromkeys(f"{recipe.method.name}:{recipe.dataset}" for recipe in own))
        rows.append({**row, "function": facts.get("function"), "summary": facts.get("summary")})
    return rows


def _condition(text: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a row meets a condition of `--filter`.

    Raises:
        UsageError: it is no condition.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"--filter takes a condition such as input=32 or 'parameters<1e6', not {text!r}")
    name, sign, written = match.groups()
    key = _key(name)
    wanted: str | float = written
    if key in ("model", "recipes"):
        if sign not in ("~", "=", "==", "!="):
            raise UsageError(f"{key} is text: --filter compares it by = or ~, not by {sign}")
    elif sign != "~":
        try:
            wanted = float(written) * (1e6 if options.same_name(name, _IN_MILLIONS) in _IN_MILLIONS else 1)
        except ValueError:
            raise UsageError(f"{key} is a number: --filter cannot compare it with {written!r}") from None
        if key in _ACCURACIES and wanted > 1:
            wanted /= 100
    compare = _OPERATORS["=" if sign == "==" else sign]

    def holds(row: dict[str, Any]) -> bool:
        value = row[key]
        if not isinstance(value, list):
            return value is not None and compare(value, wanted)
        if key == "recipes" and ":" not in written:  # a method or a dataset alone
            value = [part for element in value for part in element.split(":")]
        return (all if sign == "!=" else any)(compare(element, wanted) for element in value)

    return holds


def _key(name: str) -> str:
    """The key of a column, of which the title does as well.

    Raises:
        UsageError: there is no such column.
    """
    known = options.same_name(name, [*_KEYS, *_TITLES])
    if known not in _KEYS and known not in _TITLES:
        raise unknown("column", name, _KEYS)
    return _TITLES.get(known, known)
