"""`bnn-tf compare`."""

from collections.abc import Sequence
from pathlib import Path

import click

from bnn_tf.cli import options, runs
from bnn_tf.cli.target import Target
from bnn_tf.errors import UsageError, UserError

_BARS = "▁▂▃▄▅▆▇█"


@options.command()
@click.argument("paths", metavar="RUN…", nargs=-1, required=True, type=options.PATH)
@options.door
@options.json_option
def compare(paths: tuple[Path, ...], as_json: bool) -> None:
    """Compare runs: accuracies, curves, and the settings that differ.

    `bnn-tf report RUN RUN… -o report.html` draws the curves.
    """
    if len(paths) < 2:
        raise UsageError("name at least two runs to compare")
    for path in paths:
        if Target.open(path).kind != "run":
            raise UserError(f"{path} is no run directory")

    from bnn_tf.training.run import Run

    opened = [Run.open(path) for path in paths]  # errors of it need no TensorFlow

    from bnn_tf.report.page import differing

    rows = [runs.facts(path) for path in paths]
    for row in rows:
        if row["state"] == "damaged":
            raise UserError(row["error"])
    texts = [[line.get("val_accuracy") for line in run.metrics()] for run in opened]
    curves = [[round(float(text), 6) if text else None for text in curve] for curve in texts]
    settings = differing([run.config.to_dict() for run in opened])
    if as_json:
        for row, curve in zip(rows, curves, strict=True):
            row["curve"] = curve
        options.emit({"runs": rows, "settings": settings}, True, "")
        return
    names = _short([str(path) for path in paths])
    columns = ["run", "epochs", "last", "best", "paper", "state", "test accuracy over the epochs"]
    shown = [value for curve in curves for value in curve if value is not None]
    table = [
        [
            name,
            f"{row['epochs']}/{row['epochs_planned']}",
            *runs.percents(row),
            row["state"],
            spark(curve, min(shown, default=0), max(shown, default=1)),
        ]
        for name, row, curve in zip(names, rows, curves, strict=True)
    ]
    options.print_table(columns, table, spare=("paper", "last", columns[-1]))
    click.echo()
    if settings:
        values = [
            [key, *("–" if value is None else str(value) for value in by_run)]
            for key, by_run in settings.items()
        ]
        options.print_table(["setting that differs", *names], values)
    else:
        click.echo("The runs have the same settings.")


def spark(values: Sequence[float | None], low: float, high: float, width: int = 32) -> str:
    """A curve of at most `width` characters; each shows the mean of its stretch between `low` and `high`."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    width = min(width, len(known))
    stretches = [known[len(known) * i // width : len(known) * (i + 1) // width] for i in range(width)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _short(names: list[str]) -> list[str]:
    """The last part of each path where these differ, else the whole paths."""
    last = [Path(name).name for name in names]
    return last if len(set(last)) == len(names) else names
