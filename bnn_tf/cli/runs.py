"""`bnn-tf runs`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.errors import UntrustedModuleError, UserError, unknown
from bnn_tf.methods import METHODS
from zoo import MODELS

if TYPE_CHECKING:
    from bnn_tf.training.run import Run


@options.command()
@click.argument("folder", metavar="[DIR]", required=False, default="runs", type=options.PATH)
@click.option(
    "--sort",
    type=click.Choice(["name", "best", "last", "epochs", "started"]),
    default="started",
    help="Order of the rows; best, last and epochs put the largest first.",
)
@click.option("--method", metavar="NAME", type=options.METHOD, help="Only runs of this method.")
@click.option("--model", metavar="NAME", type=options.MODEL, help="Only runs of this network.")
@options.imports
@options.json_option
def runs(folder: Path, sort: str, method: str | None, model: str | None, as_json: bool) -> None:
    """List the runs in DIR (default: runs/) and below it, with epochs, accuracies and state.

    A run is complete, in training (another process holds it), stopped in or after an epoch (`train --resume`
    continues it), not started, imported (weights, but no epochs), in need of a module that --import names, or
    damaged.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}; bnn-tf train writes to runs/ in the working directory unless "
            "--run-dir names another folder, and bnn-tf runs DIR looks in DIR and below it"
        )
    rows = [facts(config.parent) for config in sorted(folder.glob("**/config.json"))]
    held = len(rows)
    for field, name, known in (("method", method, METHODS), ("model", model, MODELS)):
        names = {row[field] for row in rows if field in row}
        if name is not None and name not in names and name not in known:
            raise unknown(field, name, sorted(names), known.elsewhere)
        rows = [row for row in rows if name in (None, row.get(field))]
    if sort in ("best", "last", "epochs"):
        rows.sort(key=lambda row: -(row[sort] or 0))
    else:
        rows.sort(key=lambda row: row["run"] if sort == "name" else row["started"] or "")
    if as_json:
        options.emit(rows, True, "")
        return
    if not rows:
        others = f"{held} run{'s' * (held > 1)}, but none with this method and network"
        click.echo(f"{folder} holds {others if held else 'no runs; `bnn-tf train` makes one'}")
        return
    columns = ["run", "method", "network", "dataset", "epochs", "last", "best", "paper", "state"]
    spare = ("paper", "last", "dataset", "network", "method")
    options.print_table(columns, [_row(row, folder) for row in rows], spare=spare)


def facts(path: Path) -> dict[str, Any]:
    """What the files of a run directory say about it, plain values; accuracies are shares."""
    from bnn_tf.training.run import Run, read_metrics

    row: dict[str, Any] = {"run": str(path), "started": None, "epochs": 0, "last": None, "best": None}
    unnamed, run = None, None
    try:
        run = Run.open(path)
        config = run.config.to_dict()
    except UserError as error:
        if not isinstance(error.__cause__, UntrustedModuleError):
            return {**row, "state": "damaged", "error": str(error)}
        unnamed = f"needs --import {error.__cause__.module}"
        config = json.loads((path / "config.json").read_text())
    recipe, metrics = config["recipe"], read_metrics(path)
    accuracies = [float(line["val_accuracy"]) for line in metrics if line.get("val_accuracy")]
    planned = sum(phase["epochs"] for phase in recipe["phases"])
    return {
        **row,
        "started": options.started(path),
        "method": recipe["method"]["name"],
        "model": recipe["model"],
        "dataset": recipe["dataset"],
        "seed": config["seed"],
        "epochs": len(metrics),
        "epochs_planned": planned,
        "last": round(accuracies[-1], 6) if accuracies else None,
        "best": round(max(accuracies), 6) if accuracies else None,
        "published_top1": recipe["published_top1"],
        **({"state": unnamed} if run is None else _state(run)),
    }


def _state(run: "Run") -> dict[str, str]:
    """The state of a run, and `where` it was stopped."""
    reached = run.reached()
    if run.is_claimed():
        return {"state": "in training"}
    if reached == run.end:
        return {"state": "complete"}
    if (run.path / "import.json").is_file():
        return {"state": "imported"}
    if not any(reached):
        return {"state": "not started"}
    phases = run.config.recipe.phases
    where = f"in epoch {reached.epoch + 1}" if reached.step else f"after epoch {reached.epoch}"
    return {
        "state": "stopped",
        "where": where + f" of phase {phases[reached.phase].name}" * (len(phases) > 1),
    }


def _row(row: dict[str, Any], folder: Path) -> list[str]:
    name = str(Path(row["run"]).relative_to(folder)) if row["run"] != str(folder) else "."
    if row["state"] == "damaged":
        return [name, "", "", "", "", "", "", "", f"damaged: {row['error']}"]
    epochs = f"{row['epochs']}/{row['epochs_planned']}"
    state = " ".join(filter(None, (row["state"], row.get("where"))))
    return [name, row["method"], row["model"], row["dataset"], epochs, *percents(row), state]


def percents(row: dict[str, Any]) -> list[str]:
    """The last, the best and the paper's accuracy of a run as text."""
    shares = (row[key] for key in ("last", "best", "published_top1"))
    return ["" if share is None else options.percent(share) for share in shares]
