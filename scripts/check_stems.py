"""Trains a network with several stems and shortcuts on CIFAR-10 enlarged to 64×64, at equal budget.

python scripts/check_stems.py [--networks imagenet/conv,quick/conv,quick/concat,patch/concat] [--seeds 3]
    [--epochs 10] [--model bireal_net18] [--method bireal] [--size 64] [--data-dir DIR] [--runs runs/stems]

This says which stem costs accuracy, and how much, where ImageNet is absent. All networks pad with ones, and
are trained by the method's recipe for short budgets with equal seeds. *points* is the mean accuracy less that
of the first network; *n* counts seeds. Stopped at any moment, the same command goes on; runs that are done
are only read.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import click
from check_accuracy import summary, train

from bnn_tf.cli.options import print_table
from bnn_tf.training import Run


def arguments(model: str, method: str, network: str, size: int, epochs: int, seed: int) -> list[str]:
    """What follows `bnn-tf train` for one run of a network, written as `stem/shortcut`."""
    stem, _, shortcut = network.partition("/")
    options = {"stem": stem, "shortcut": shortcut or "conv", "pad_values": 1}
    settings = [f"--set=model.{key}={value}" for key, value in options.items()]
    recipe = ["--method", method, "--model", model, "--dataset", "cifar10", "--variant", "fast"]
    budget = ["--image-size", str(size), "--epochs", str(epochs), "--seed", str(seed)]
    return [*recipe, *settings, *budget]


def row(network: str, runs: list[Run]) -> dict[str, Any]:
    """What the runs of a network reached."""
    metrics = [run.metrics() for run in runs]
    accuracies = [100 * float(rows[-1]["val_accuracy"]) for rows in metrics]
    seconds = [float(epoch["seconds"]) for rows in metrics for epoch in rows]
    return {
        "network": network,
        "accuracies": accuracies,
        "mean": statistics.mean(accuracies),
        "summary": summary(accuracies),
        "seconds_per_epoch": statistics.median(seconds),
    }


@click.command()
@click.option("--networks", default="imagenet/conv,quick/conv,quick/concat,patch/concat", show_default=True)
@click.option("--model", default="bireal_net18", show_default=True)
@click.option("--method", default="bireal", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many, from 1.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--size", type=click.IntRange(32), default=64, show_default=True, help="Height and width.")
@click.option("--data-dir", help="Folder of the prepared dataset.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/stems"), show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Training images, to try the script.")
@click.option("--json", "as_json", is_flag=True)
def main(
    networks: str,
    model: str,
    method: str,
    seeds: int,
    epochs: int,
    size: int,
    data_dir: str | None,
    runs: Path,
    limit: int | None,
    as_json: bool,
) -> None:
    """Trains every network with every seed, one run after the other; seeds are the outer loop."""
    done: dict[str, list[Run]] = {network: [] for network in networks.split(",")}
    few = ["--limit", str(limit)] if limit else []
    for seed in range(1, seeds + 1):
        for network, finished in done.items():
            folder = runs / f"{model}-{method}-{network.replace('/', '-')}-{size}-{epochs}-{seed}"
            command = [*arguments(model, method, network, size, epochs, seed), *few]
            finished.append(train(folder, command, data_dir))
    rows = [row(network, finished) for network, finished in done.items()]
    for one in rows:
        one["points"] = one["mean"] - rows[0]["mean"]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ["stem/shortcut", f"accuracy after {epochs} epochs", "points", "s per epoch"]
    cells = [
        [r["network"], r["summary"], f"{r['points']:+.1f}", f"{r['seconds_per_epoch']:.0f}"] for r in rows
    ]
    print_table(columns, cells)


if __name__ == "__main__":
    main()
