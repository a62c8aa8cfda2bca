"""Trains recipes with several seeds and prints mean ± deviation: a proof that a change left accuracy alone.

python scripts/check_accuracy.py [--methods recu,ovsw,bireal,subbit] [--seeds 3] [--epochs 10]
    [--variant default] [--batch-size 256] [--data-dir DIR] [--runs runs/accuracy] [--json]

By default every method trains `cifar_resnet20` on CIFAR-10 for ten epochs of the papers' settings in batches
of 256. Of Bi-Real Net and SNN there are no such settings: their authors trained on ImageNet alone. The
authors' PyTorch code reaches 61.5 % (ReCU) and 63.9 % (OvSW) there on JPEG-encoded images, n = 1 each.
Equal seeds mean nothing across frameworks: one flipped sign cascades. Stopped at any moment, the same
command goes on; runs that are done are only read. One epoch took four to six minutes on
two cores of an AMD EPYC beside other programs (`docs/records`).
"""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

import click

from bnn_tf.cli.options import print_table
from bnn_tf.training import Run
from zoo import recipes

AUTHORS = {("recu", "cifar_resnet20", 10): 61.5, ("ovsw", "cifar_resnet20", 10): 63.9}
"""Test accuracy of the authors' PyTorch code by method, network and epochs, in percent."""


def train(folder: Path, arguments: list[str], data_dir: str | None) -> Run:
    """Trains a run, goes on with it, or only reads it where it is done."""
    command = [sys.executable, "-m", "bnn_tf", "train", "--print-every", "100"]
    place = ["--data-dir", data_dir] if data_dir else []
    start = ["--resume", str(folder)] if Run.exists(folder) else [*arguments, "-o", str(folder)]
    subprocess.run([*command, *start, *place], check=True, stdout=sys.stderr)
    return Run.open(folder)


def summary(accuracies: list[float]) -> str:
    """Mean, and deviation where there are several."""
    mean = statistics.mean(accuracies)
    spread = f" ± {statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{mean:.1f}{spread} % (n = {len(accuracies)})"


@click.command()
@click.option("--methods", default="recu,ovsw,bireal,subbit", help="Names, separated by commas.")
@click.option("--model", default="cifar_resnet20", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many, from 1.")
@click.option(
    "--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of all phases together."
)
@click.option("--variant", default="default", show_default=True, help="Of the recipes.")
@click.option(
    "--batch-size", type=click.IntRange(1), help="256 for the default variant, else the recipe's own."
)
@click.option("--data-dir", help="Folder of the prepared dataset.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/accuracy"), show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    methods: str,
    model: str,
    seeds: int,
    epochs: int,
    variant: str,
    batch_size: int | None,
    data_dir: str | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Trains every method with every seed, one run after the other."""
    results = []
    if batch_size is None and variant == "default":
        batch_size = 256
    for method in methods.split(","):
        accuracies, seconds = [], []
        for seed in range(1, seeds + 1):
            folder = runs / f"{method}-{variant}-{epochs}-{seed}"
            recipe = recipes.find(method, model, "cifar10", variant)
            recipe = recipes.with_epochs(dataclasses.replace(recipe, shared_epochs=True), [epochs])
            share = ",".join(str(phase.epochs) for phase in recipe.phases)
            arguments = ["--method", method, "--model", model, "--dataset", "cifar10", "--variant", variant]
            arguments += ["--batch-size", str(batch_size)] if batch_size else []
            rows = train(folder, [*arguments, "--epochs", share, "--seed", str(seed)], data_dir).metrics()
            accuracies.append(100 * float(rows[-1]["val_accuracy"]))
            seconds.append(statistics.median(float(row["seconds"]) for row in rows))
        results.append(
            {
                "method": method,
                "accuracies": accuracies,
                "summary": summary(accuracies),
                "authors": AUTHORS.get((method, model, epochs)) if variant == "default" else None,
                "seconds_per_epoch": statistics.median(seconds),
            }
        )
    if as_json:
        print(json.dumps(results, indent=2))
        return
    rows = [
        [r["method"], r["summary"], str(r["authors"] or "–"), f"{r['seconds_per_epoch']:.0f}"]
        for r in results
    ]
    print_table(["method", f"accuracy after {epochs} epochs", "authors' code", "s per epoch"], rows)


if __name__ == "__main__":
    main()
