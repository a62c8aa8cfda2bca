"""`bnn-tf report`."""

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf import files
from bnn_tf.cli import options
from bnn_tf.cli.convert import CONVERSION
from bnn_tf.cli.target import Target
from bnn_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    from bnn_tf.report import page
    from zoo.recipes import Recipe


@options.command()
@click.argument("paths", metavar="RUN…", nargs=-1, required=True, type=options.PATH)
@click.option(
    "-o",
    "--output",
    metavar="FILE.html",
    type=options.PATH,
    help="Page to write; default: report.html in the run. Of several runs it must be named.",
)
@options.data_dir
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10_000,
    metavar="N",
    help="Look at no more than N held-out images.",
)
@click.option(
    "--no-images", is_flag=True, help="Leave out what needs the dataset: mistakes, accuracy by class."
)
@options.door
@options.json_option
def report(
    paths: tuple[Path, ...],
    output: Path | None,
    data_dir: str | None,
    limit: int,
    no_images: bool,
    as_json: bool,
) -> None:
    """Write a page about one or several RUNs: results beside the papers', curves, kernels, mistakes, cost.

    The page is one HTML file that needs no network; its data lie beside it as CSV files.
    """
    targets = [Target.open(path) for path in paths]
    for target in targets:
        if target.kind != "run":
            raise UserError(f"{target} is no run directory; a report is about runs")
    if output is None and len(paths) > 1:
        raise UsageError("name the page to write with -o, as there are several runs")
    output = targets[0].output(output, "report.html")
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the report is a page: name a file that ends in .html, not {output}")
    for target in targets:
        # What was imported has weights, but no epochs.
        if not target.run.metrics() and not (target.path / "import.json").is_file():
            raise UserError(f"{target} has nothing to report yet: not one epoch is complete")

    from bnn_tf.report import page

    materials = [_material(target, data_dir, None if no_images else limit) for target in targets]
    written = page.write(materials, output)
    options.emit(written.to_dict(), as_json, str(written))


def _material(target: Target, data_dir: str | None, limit: int | None) -> "page.Material":
    """What the page says of a run; without `limit` nothing about single images."""
    from bnn_tf import observe
    from bnn_tf.report import page
    from zoo import recipes

    run = target.run
    recipe = run.config.recipe
    method = recipe.method_of(recipe.phases[-1])
    return page.Material(
        name=run.path.resolve().name,
        config=run.config.to_dict(),
        recipe=recipes.original(recipe).to_dict(),
        environment=_json_object(run.path / "environment.json"),
        metrics=run.metrics(),
        records=observe.read(run.path / "diagnostics.jsonl"),
        network=target.network(),
        diagnostics=method.diagnostics,
        full_recipe=_full_recipe(recipe),
        predictions=None if limit is None else _predictions(target, data_dir, limit),
        converted=_converted(run.path),
    )


def _full_recipe(recipe: "Recipe") -> dict[str, Any] | None:
    """What the paper reaches with its own recipe where this is a variant for a short budget."""
    from zoo import recipes

    paper = recipes.original(recipe, "default")
    same_network = recipe.variant != paper.variant and recipe.model_options == paper.model_options
    if not same_network or recipe.published_top1 is not None or paper.published_top1 is None:
        return None
    return {"published_top1": paper.published_top1, "epochs": sum(phase.epochs for phase in paper.phases)}


def _json_object(path: Path) -> dict[str, Any]:
    """What a file beside the run holds; nothing where the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(path.read_text())
        if isinstance(values, dict):
            return values
    return {}


def _predictions(target: Target, data_dir: str | None, limit: int) -> "page.Predictions | None":
    """What the network says of the held-out images; None, and a remark, where they cannot be read."""
    from bnn_tf import data
    from bnn_tf.report import page

    images = target.images(data_dir=data_dir)
    pre = images.pre()
    scale, offset = pre.affine

    def pixels(inputs: Any) -> Any:
        return ((inputs - offset) / scale).round().clip(0, 255).astype("uint8")

    try:
        source = images.source(limit)
        with data.clear_errors():
            batches = data.evaluation_batches(source, pre, 128).as_numpy_iterator()
            return page.predictions(target.predict(), batches, source.class_names, pixels)
    except UserError as error:
        click.echo(f"{target}: the page says nothing about single images: {error}", err=True)
        return None


def _converted(run: Path) -> "page.Converted | None":
    """The run's converted file, or what its conversion recorded of it where the file cannot be looked at."""
    from bnn_tf.deploy import LceFile
    from bnn_tf.report import page

    record = _json_object(run / CONVERSION)
    agreement = str(record.get("agreement", "")) if record.get("parity") else ""
    written = Path(str(record.get("path", run / "model.tflite")))
    # `os.path.isfile` takes a folder that may not be read for a file that is not there.
    path = next((path for path in (written, run / "model.tflite") if os.path.isfile(path)), None)
    if path is not None:
        try:
            operators = _operators(LceFile(path).counts())
            same = files.checksum(path) == record.get("sha256")
            return page.Converted(path.name, path.stat().st_size, operators, agreement if same else "")
        except UserError as error:
            click.echo(f"{path}: the page has only what the conversion recorded: {error}", err=True)
    lost = "is not where it was written any more" if path is None else "cannot be read"
    size, counts = record.get("size"), record.get("operators")
    if isinstance(size, int) and isinstance(counts, dict):
        remark = f"The file {lost}; these figures are what its conversion recorded."
        return page.Converted(written.name, size, _operators(counts), agreement, remark)
    if path is None:
        return None
    remark = f"The file {lost}, and there is no record of its conversion; bnn-tf convert writes both again."
    return page.Converted(path.name, path.stat().st_size, (), "", remark)


def _operators(counts: dict[str, int]) -> tuple[str, ...]:
    return tuple(f"{count} {name}" for name, count in counts.items())
