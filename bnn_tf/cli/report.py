"""`bnn-tf report`."""

import json
from pathlib import Path

import click

from bnn_tf.cli import options


@options.command()
@click.argument("run", type=options.PATH)
@click.option("-o", "--output", type=options.PATH, help="Folder to write; default: report/ in the run.")
@options.json_option
def report(run: Path, output: Path | None, as_json: bool) -> None:
    """Write a report of RUN: its result beside the paper's, curves, kernels, codebooks.

    The folder gets report.md and its pictures (PNG).
    """
    from bnn_tf import observe
    from bnn_tf.errors import UserError
    from bnn_tf.report.page import Material, write
    from bnn_tf.training import Run, build
    from zoo import recipes

    opened = Run.open(run)
    rows = opened.metrics()
    if not rows and not (run / "import.json").is_file():  # what was imported has weights, but no epochs
        raise UserError(f"{run} has nothing to report yet: not one epoch is complete")
    recipe = opened.config.recipe
    environment = run / "environment.json"
    material = Material(
        name=run.resolve().name,
        config=opened.config.to_dict(),
        recipe=recipes.find(recipe.method, recipe.model, recipe.dataset, recipe.variant).to_dict(),
        environment=json.loads(environment.read_text()) if environment.is_file() else {},
        metrics=rows,
        records=observe.read(run / "diagnostics.jsonl"),
        network=build.load_run_model(opened),
    )
    written = write(material, output or run / "report")
    text = f"{written.path}: {len(written.pictures)} pictures"
    options.emit(written.to_dict(), as_json, text)
