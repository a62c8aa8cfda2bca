"""Writes docs/results.md and zoo/recipes/results.json from docs/records; makes a record of a finished run.

python scripts/make_results.py                                     # writes both
python scripts/make_results.py --add RUN… [--data-dir DIR]         # adds records first
python scripts/make_results.py --ship RUN [--data-dir DIR]         # puts a run's weights into the package
python scripts/make_results.py --retrain NAME [--data-dir DIR]     # trains weights of the package once more

A record is one JSON file: the run's configuration, environment and metrics, and what its files are: the
accuracy and size of the converted `.tflite`, the size of the `.snn` of sub-bit networks. A page that is
older than its records fails a test.
"""

import dataclasses
import functools
import json
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bnn_tf import data
from bnn_tf.training import Run
from bnn_tf.values import resolve
from zoo import pretrained, recipes

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "docs" / "records", ROOT / "docs" / "results.md"
INTRODUCTION = """# Results

Every row comes from the records in `docs/records`: configuration, environment, seed, and the metrics of
every epoch. `python scripts/make_results.py` writes this page from them. The images are a JPEG re-encoding
of CIFAR-10 (quality about 75), which costs accuracy, and the trainings are far shorter than the papers':
the papers' figures stand beside them for orientation only. After ten epochs of their own settings on these
images, the authors' PyTorch code reaches 61.5 % (ReCU) and 63.9 % (OvSW), n = 1 each. `±` is the sample
standard deviation over n seeds. For the networks without a figure the papers have none on CIFAR-10;
`cifar_resnet20` is the only network that was trained here.

Other programs ran beside the trainings, so that seconds per epoch are upper bounds, and not comparable. Timed
in turns on one core, the training steps of an epoch in the batches of 128 of `fast` take 0.97 (ReCU) and 0.95
(OvSW) times as long as in the papers' batches of 256.

† Trainings that are older than `statistics_batches`: BatchNorm's statistics were measured afterwards, from
the weights of the last epoch and on the images that would have come next, by the function that training
calls since.
"""
COLUMNS = (
    "network", "method", "recipe", "epochs", "accuracy", "n", "`.tflite` accuracy", "`.tflite` size",
    "`.snn` size", "s per epoch", "the paper",
)  # fmt: skip
COMMAND = "bnn-tf train --method METHOD --model NETWORK --dataset cifar10 --variant RECIPE --epochs EPOCHS"


def bnn_tf(*arguments: Any) -> dict[str, Any]:
    """What a command prints with `--json`."""
    command = [sys.executable, "-m", "bnn_tf", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@functools.cache
def record(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """What is worth keeping of a run; measured once, which takes minutes."""
    run = Run.open(folder)
    config = run.config
    place = ["--data-dir", data_dir] if data_dir else []
    columns = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
    rows = [
        {key: row[key] if key == "phase" else float(row[key]) for key in columns if row.get(key)}
        for row in run.metrics()
    ]
    with tempfile.TemporaryDirectory() as temporary:
        tflite, snn = Path(temporary, "model.tflite"), Path(temporary, "model.snn")
        bnn_tf("convert", folder, "-o", tflite, *place)
        files = {
            "tflite_bytes": tflite.stat().st_size,
            "tflite_accuracy": bnn_tf("evaluate", tflite, "--dataset", config.recipe.dataset, *place)["top1"],
        }
        if config.recipe.method.name == "subbit":
            bnn_tf("compress", tflite, "-o", snn)
            files["snn_bytes"] = snn.stat().st_size
    stored = config.to_dict()
    stored.pop("data_dir", None)
    if config.recipe.teacher and Path(config.recipe.teacher).is_dir():
        stored["recipe"]["teacher"] = _described(Run.open(config.recipe.teacher))
    return {
        "config": stored,
        "environment": json.loads((folder / "environment.json").read_text()),
        "metrics": rows,
        "files": files,
    }


def _described(run: Run) -> str:
    """A run in the words of the page, which say more than where it lies."""
    recipe, accuracy = run.config.recipe, float(run.metrics()[-1]["val_accuracy"])
    return f"{recipe.method.name} {recipe.variant}, {recipe.epochs} epochs, {accuracy:.1%}"


def results(records: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What recipes reached whose settings were not changed, for `bnn-tf recipes`."""
    rows = []
    for (dataset, epochs, network, method, variant, settings), group in _groups(records).items():
        if settings == variant:
            recipe = {"method": {"name": method}, "model": network.strip("`")}
            recipe |= {"dataset": dataset, "variant": variant}
            accuracies = _accuracies(group)
            row = {"recipe": recipe, "epochs": epochs, "accuracy": _mean(accuracies), "n": len(accuracies)}
            rows.append(row)
    return rows


def _groups(records: dict[str, dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Records that differ in the seed alone."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for entry in records.values():
        recipe = _named(recipes.Recipe.from_dict(entry["config"]["recipe"]))
        network, method, settings = _title(entry["config"])
        groups[(recipe.dataset, recipe.epochs, network, method, recipe.variant, settings)].append(entry)
    return groups


def page(records: dict[str, dict[str, Any]]) -> str:
    """The page of all records; runs that differ in the seed alone are one row."""
    groups = _groups(records)
    # Where the recipe was run as it is, its other settings are compared with that, in a table of their own.
    changed = {
        key: group
        for key, group in groups.items()
        if key[5] != key[4] and (*key[:5], key[4]) in groups and not group[0]["config"].get("init_from")
    }
    rows = sorted(
        (_row(group) for key, group in groups.items() if key not in changed),
        key=lambda row: (*row[:3], sum(map(int, row[3].split(" + ")))),
    )
    lines = _table([COLUMNS, *rows])
    for base in sorted({key[:5] for key in changed}):
        lines += _ingredients(base, [key[5] for key in changed if key[:5] == base], groups)
    machines = sorted({_machine(entry["environment"]) for entry in records.values()})
    repeat = f"A run is repeated with `{COMMAND} --seed SEED`, and `--set` for each setting that differs."
    return "\n".join([INTRODUCTION, *lines, "", repeat, f"Machines: {'; '.join(machines)}.", ""])


def _table(rows: list[Any]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


def _ingredients(
    base: tuple[Any, ...], settings: list[str], groups: dict[tuple[Any, ...], list[dict[str, Any]]]
) -> list[str]:
    """What other settings of a recipe change, the best first."""
    dataset, epochs, network, method, variant = base
    own = _accuracies(groups[(*base, variant)])
    table = [("setting", "accuracy", "n", "difference")]
    reached = {setting: _accuracies(groups[(*base, setting)]) for setting in settings}
    for setting, accuracies in sorted(reached.items(), key=lambda item: -statistics.mean(item[1])):
        difference = statistics.mean(accuracies) - statistics.mean(own)
        name = setting.removeprefix(f"{variant}, ")
        accuracy = _mean(accuracies) + _mark(groups[(*base, setting)])
        table.append((f"`{name}`", accuracy, len(accuracies), f"{difference:+.1f}"))
    return [
        "",
        f"## What the settings of `{variant}` give: {method}, {epochs} epochs",
        "",
        f"`{method}` on {network}, {dataset}, {epochs} epochs: "
        f"{_mean(own)}{_mark(groups[(*base, variant)])} (n = {len(own)}) as the recipe "
        "is, and with the settings of a row changed. Where n = 1, less than a point says nothing.",
        "",
        *_table(table),
    ]


def _accuracies(group: list[dict[str, Any]]) -> list[float]:
    return [100 * entry["metrics"][-1]["val_accuracy"] for entry in group]


def _mark(group: list[dict[str, Any]]) -> str:
    return " †" if any(entry.get("statistics") for entry in group) else ""


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread} %"


def _row(group: list[dict[str, Any]]) -> list[Any]:
    recipe = recipes.Recipe.from_dict(group[0]["config"]["recipe"])
    paper = recipes.find(recipe.method.name, recipe.model, recipe.dataset)
    published = "–"
    if paper.published_top1:
        times = paper.epochs / recipe.epochs
        published = f"{100 * paper.published_top1:g} % after {paper.epochs} epochs, {times:g} × as many"
    files = group[0]["files"]
    seconds = statistics.median(row["seconds"] for entry in group for row in entry["metrics"])
    return [
        *_title(group[0]["config"]),
        " + ".join(str(phase.epochs) for phase in recipe.phases),
        _mean(_accuracies(group)) + _mark(group),
        len(group),
        f"{statistics.mean(100 * entry['files']['tflite_accuracy'] for entry in group):.1f} %",
        f"{files['tflite_bytes'] / 1000:.0f} kB",
        f"{files['snn_bytes'] / 1000:.1f} kB" if "snn_bytes" in files else "–",
        f"{seconds:.0f}",
        published,
    ]


def _title(config: dict[str, Any]) -> tuple[str, str, str]:
    """Network, method and recipe of a run, with the settings that differ from the recipe's."""
    recipe = _named(recipes.Recipe.from_dict(config["recipe"]))
    start = [f"from {config['init_from']}"] if config.get("init_from") else []
    return f"`{recipe.model}`", recipe.method.name, ", ".join([recipe.variant, *start, *_changes(recipe)])


def _named(recipe: recipes.Recipe) -> recipes.Recipe:
    """The recipe under the variant that has its phases: some were tried before they became one."""
    for variant in (recipe.variant, *recipes.variants(recipe.method.name)):
        own = recipes.find(recipe.method.name, recipe.model, recipe.dataset, variant)
        if [phase.name for phase in own.phases] == [phase.name for phase in recipe.phases]:
            return dataclasses.replace(recipe, variant=variant)
    return recipe


def _changes(recipe: recipes.Recipe) -> list[str]:
    """The settings that differ from the recipe's own, but for the epochs."""
    own = recipes.find(recipe.method.name, recipe.model, recipe.dataset, recipe.variant)
    names = [phase.name for phase in recipe.phases]  # `--from-phase` leaves out earlier ones
    own = dataclasses.replace(own, phases=tuple(phase for phase in own.phases if phase.name in names))
    known = [phase.name for phase in own.phases]
    added = [f"a {p.name} phase of {p.epochs} epochs" for p in recipe.phases if p.name not in known]
    recipe = dataclasses.replace(recipe, phases=tuple(p for p in recipe.phases if p.name in known))
    own = recipes.with_epochs(own, [phase.epochs for phase in recipe.phases])
    changes = _differences(_used(recipe).to_dict(), _used(own).to_dict())
    implied = ["note=", "published_top", "shared_epochs="]
    implied += ["loss=distribution"] if recipe.teacher else []
    implied += ["fresh_variables="] if added else []  # what the added phase does not have
    return [*added, *(change for change in changes if not change.startswith(tuple(implied)))]


def _used(recipe: recipes.Recipe) -> recipes.Recipe:
    """The recipe with the operations on images and the decay that its epochs get, as plain settings."""
    images = recipe.images_of(recipe.phases[0])
    training = tuple(
        dataclasses.replace(op, from_epochs=0) if isinstance(op, data.PadCrop) else op
        for op in images.training
    )
    phases = []
    for phase in recipe.phases:
        decay = phase.optimizer.decay(phase.epochs)
        optimizer = dataclasses.replace(phase.optimizer, weight_decay=decay, decay_epochs=None)
        phases.append(dataclasses.replace(phase, optimizer=optimizer))
    images = dataclasses.replace(images, training=training)
    return dataclasses.replace(recipe, phases=tuple(phases), images=images)


def _differences(new: Any, old: Any, place: str = "") -> Iterator[str]:
    """What differs in nested values, as the command line's `--set` writes it."""
    if new == old:
        return
    if place == "phases" and [phase["name"] for phase in new] == [phase["name"] for phase in old]:
        changes = [list(_differences(*pair)) for pair in zip(new, old, strict=True)]
        if all(change == changes[0] for change in changes):  # without a prefix, --set changes all phases
            yield from changes[0]
        else:
            yield from (
                f"{phase['name']}.{text}" for phase, own in zip(new, changes, strict=True) for text in own
            )
    elif isinstance(new, dict) and isinstance(old, dict) and new.get("name") == old.get("name"):
        for key in new:
            yield from _differences(new[key], old.get(key), f"{place}.{key}" if place else key)
    elif isinstance(new, dict) and isinstance(old, dict) and {"name"} <= new.keys() & old.keys():
        yield f"{place}={new['name']}"
        for key in [key for key in new if key in old and key != "name"]:  # --set PLACE=NAME keeps these
            yield from _differences(new[key], old[key], f"{place}.{key}")
    else:
        plain = _plain(new)
        yield f"{place}={plain if isinstance(plain, str) else json.dumps(plain)}"


def _plain(value: Any) -> Any:
    """Operations on images that have their own settings as their names alone."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and value.get("name") in data.OPERATIONS.names():
        own = resolve(data.Operation, value["name"]).get_config()
        return value["name"] if own == value else value
    return value["name"] if isinstance(value, dict) and "name" in value else value


def _machine(environment: dict[str, Any]) -> str:
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("tensorflow", "larq", "larq-compute-engine"))
    return f"{environment['cpus']} CPU cores, Python {environment['python']}, {versions}"


def read_records() -> dict[str, dict[str, Any]]:
    """All records by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))}


def ship(folder: Path, data_dir: str | None) -> str:
    """Puts the weights of a run into the package; returns what they reach there."""
    place = ["--data-dir", data_dir] if data_dir else []
    entry, run = dict(record(folder, data_dir)), Run.open(folder)
    recipe = run.config.recipe
    name = f"{recipe.model}-{recipe.method.name}"
    pretrained.FOLDER.mkdir(exist_ok=True)
    path = pretrained.FOLDER / f"{name}.npz"
    entry["checksum"] = pretrained.save(run.load_network(), path)
    note = path.with_suffix(".json")
    note.write_text(json.dumps(entry))  # what is measured is what users load
    with tempfile.TemporaryDirectory() as temporary:
        target, tflite = f"{pretrained.PREFIX}{name}", Path(temporary, "model.tflite")
        bnn_tf("convert", target, "-o", tflite, *place)
        entry["accuracy"] = {
            "keras": bnn_tf("evaluate", target, *place)["top1"],
            "lce": bnn_tf("evaluate", tflite, *place)["top1"],
        }
    epochs = ",".join(str(phase.epochs) for phase in recipe.phases)
    changes = [f" --set {shlex.quote(change)}" for change in _changes(recipe)]
    if run.config.init_from:
        changes.insert(0, f" --init-from {run.config.init_from} --from-phase {recipe.phases[0].name}")
    entry["command"] = (
        f"bnn-tf train --method {recipe.method.name} --model {recipe.model} --dataset {recipe.dataset} "
        f"--variant {recipe.variant} --epochs {epochs} --seed {run.config.seed}{''.join(changes)}"
    )
    note.write_text(json.dumps(entry, indent=1) + "\n")
    return f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {entry['accuracy']}"


def retrain(name: str, data_dir: str | None) -> Path:
    """Trains the weights of a name as the command beside them says; goes on with a run that is there."""
    folder = ROOT / "runs" / name
    _, *arguments = shlex.split(pretrained.record(name)["command"])
    place = ["--data-dir", data_dir] if data_dir else []
    start = ["train", "--resume", folder] if Run.exists(folder) else [*arguments, "--run-dir", folder]
    subprocess.run([sys.executable, "-m", "bnn_tf", *map(str, start), *place], check=True)
    return folder


@click.command()
@click.option("--retrain", "names", multiple=True, help="A name of shipped weights, to see what they reach.")
@click.option("--add", type=click.Path(exists=True, path_type=Path), multiple=True, help="A finished run.")
@click.option(
    "--ship", "shipped", type=click.Path(exists=True, path_type=Path), multiple=True, help="Likewise."
)
@click.option("--data-dir", help="Folder of the prepared dataset.")
def main(
    names: tuple[str, ...], add: tuple[Path, ...], shipped: tuple[Path, ...], data_dir: str | None
) -> None:
    """Adds records, puts weights into the package, and writes the page."""
    for name in names:
        click.echo(f"{name}: {float(Run.open(retrain(name, data_dir)).metrics()[-1]['val_accuracy']):.2%}")
    for folder in shipped:
        click.echo(ship(folder, data_dir))
    RECORDS.mkdir(exist_ok=True)
    for folder in add:
        entry = record(folder, data_dir)
        recipe = recipes.Recipe.from_dict(entry["config"]["recipe"])
        _, _, settings = _title(entry["config"])
        labels = [recipe.model, recipe.method.name, settings]
        labels += [str(recipe.epochs), f"seed{entry['config']['seed']}"]
        name = re.sub(r"[^\w.=-]+", "_", re.sub(r'[\[\]"]', "", "-".join(labels)))
        (RECORDS / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")
        click.echo(f"docs/records/{name}.json")
    records = read_records()
    PAGE.write_text(page(records))
    recipes.RESULTS.write_text(json.dumps(results(records), indent=1, ensure_ascii=False) + "\n")
    click.echo("docs/results.md, zoo/recipes/results.json")


if __name__ == "__main__":
    main()
