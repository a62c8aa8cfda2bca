"""Evaluates every 8-bit form of trained networks on the whole test set, beside the float file and Keras.

python scripts/check_int8.py RUN… [--forms classifier,mixed,plus,full] [--data-dir DIR] [--limit N] [--json]

A run is what `bnn-tf train` wrote; `zoo:NAME` and saved models with a file that names their images are taken
too. *points* is the accuracy of the form less that of Keras; more than 0.3 below it is marked with `!`.
*alike* compares the file with the fake-quantized network, *as float* with the network before quantization,
both on `--images` test images; below 95 % alike, marked with `!`, `bnn-tf convert` writes the file only with
`--allow-disagreement`. What is refused for another reason has it in place of figures. The exit code is 1
where a form loses more than 0.3 points.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from bnn_tf import convert, data, training
from bnn_tf.cli.options import print_table
from bnn_tf.cli.target import Target
from bnn_tf.deploy import Int8
from bnn_tf.deploy.convert import LEAST_AGREEMENT
from bnn_tf.errors import UserError

ALLOWED = 0.003
"""Points that a form may lose against float."""
COLUMNS = ("network", "form", "top-1 %", "points", "n", "kB", "alike %", "as float %")


def rows_of(
    name: str,
    forms: list[str],
    data_dir: str | None,
    limit: int | None,
    calibrate: int,
    compare: int,
) -> list[dict[str, Any]]:
    """The rows of one network: Keras, the float file, and each form."""
    target = Target.open(name)
    network, images = target.network(), target.images(None, data_dir)
    source, pre = images.source(limit), images.pre()
    calibration, _ = data.take(images.source(), pre, calibrate, split="train")
    samples, _ = data.take(source, pre, compare)
    keras = training.evaluate(target.predict(), source, pre)
    rows = [{"network": name, "form": "Keras", "top1": keras.top1, "images": keras.images}]
    with tempfile.TemporaryDirectory() as folder:
        for form in ("float", *forms):
            path = Path(folder) / f"{form}.tflite"
            try:
                rows.append(_row(name, form, network, path, samples, calibration, source, pre))
            except UserError as error:
                rows.append({"network": name, "form": form, "refused": str(error)})
    for row in rows:
        if "top1" in row:
            row["points"] = row["top1"] - rows[0]["top1"]
    return rows


def _row(
    name: str,
    form: str,
    network: Any,
    path: Path,
    samples: np.ndarray,
    calibration: np.ndarray,
    source: data.Source,
    pre: data.Images,
) -> dict[str, Any]:
    quantized = form != "float"
    report = convert(
        network,
        path,
        images=samples,
        int8=Int8(form) if quantized else None,
        calibration=calibration if quantized else None,
        allow_disagreement=True,
    )
    result = training.evaluate(Target.open(path).predict(), source, pre)
    row = {"network": name, "form": form, "top1": result.top1, "images": result.images}
    assert report.parity is not None
    row |= {"bytes": report.size, "alike": report.parity.agreement}
    if report.int8 is not None:
        row |= {"became": report.int8.form, "layers": report.int8.layers}
        row["as_float"] = report.int8.float_agreement or 0.0
    return row


def cells(row: dict[str, Any]) -> list[str]:
    """A row as text."""
    became = row.get("became", row["form"])
    form = row["form"] if became == row["form"] else f"{row['form']} → {became}"
    if "refused" in row:
        return [row["network"], form, f"refused: {row['refused']}", *[""] * 5]
    alike = f"{100 * row['alike']:.1f}{' !' * (row['alike'] < LEAST_AGREEMENT)}" if "alike" in row else ""
    shares = [alike, f"{100 * row['as_float']:.1f}" if "as_float" in row else ""]
    mark = " !" if row["points"] < -ALLOWED else ""
    size = f"{row['bytes'] / 1e3:,.0f}" if "bytes" in row else ""
    points = f"{100 * row['points']:+.2f}{mark}"
    return [row["network"], form, f"{100 * row['top1']:.2f}", points, f"{row['images']:,}", size, *shares]


@click.command()
@click.argument("targets", nargs=-1, required=True)
@click.option("--forms", default="classifier,mixed,plus,full", show_default=True)
@click.option("--data-dir", help="Folder of the prepared dataset.")
@click.option("--limit", type=click.IntRange(1), help="Test images; default: all.")
@click.option("--calibration-images", type=click.IntRange(1), default=512, show_default=True)
@click.option("--images", type=click.IntRange(1), default=256, show_default=True, help="For *alike*.")
@click.option("--json", "as_json", is_flag=True)
def main(
    targets: tuple[str, ...],
    forms: str,
    data_dir: str | None,
    limit: int | None,
    calibration_images: int,
    images: int,
    as_json: bool,
) -> None:
    """Evaluates the forms of each target."""
    rows = []
    for target in targets:
        rows += rows_of(target, forms.split(","), data_dir, limit, calibration_images, images)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(COLUMNS, [cells(row) for row in rows], numbers_from=2)
    sys.exit(int(any(row.get("points", 0.0) < -ALLOWED for row in rows)))


if __name__ == "__main__":
    main()
