"""The report of one or several runs: one HTML page that needs nothing else, with its data as CSV beside it.

The page holds its style, its charts (SVG) and its pictures, and loads nothing from anywhere. It follows the
reader's light or dark mode, prints, and fits a phone.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import lazy
from bnn_tf.errors import UserError
from bnn_tf.report import plots
from bnn_tf.values import InNotebooks

if TYPE_CHECKING:
    from bnn_tf import codebook, observe
    from bnn_tf._tensorflow import tf
    from bnn_tf.report import accounting
    from bnn_tf.report.accounting import Account
else:
    codebook, observe = lazy("bnn_tf.codebook"), lazy("bnn_tf.observe")
    accounting = lazy("bnn_tf.report.accounting")

WORST = 12  # mistakes shown as pictures
_MATRIX = 40  # classes up to which the confusion matrix is drawn
_HISTOGRAMS = 6  # layers whose weights are drawn
_SNAPSHOTS = 8  # codebooks in a history


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A held-out image that the network takes for something else.

    Args:
        image: uint8 `(height, width, channels)`.
        label: Number of the true class.
        answer: Number of the class with the largest logit.
        confidence: The softmax of that logit.
    """

    image: np.ndarray
    label: int
    answer: int
    confidence: float


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of the held-out images.

    Args:
        matrix: Counts `[true class, answer]`.
        class_names: The names of the classes.
        mistakes: The wrong answers of which the network is most certain, the worst first.
    """

    matrix: np.ndarray
    class_names: tuple[str, ...]
    mistakes: tuple[Mistake, ...]

    def class_accuracy(self) -> list[float]:
        """Share of each class's images that are recognised; NaN for a class without images."""
        totals, right = self.matrix.sum(axis=1).tolist(), np.diag(self.matrix).tolist()
        return [r / n if n else math.nan for r, n in zip(right, totals, strict=True)]

    def confusions(self, count: int = 10) -> list[tuple[int, int, int]]:
        """The most frequent mistakes: true class, answer, how often."""
        wrong = self.matrix - np.diag(np.diag(self.matrix))
        order = np.argsort(wrong, axis=None, kind="stable")[::-1][:count]
        pairs = [divmod(int(place), wrong.shape[1]) for place in order]
        return [(label, answer, int(wrong[label, answer])) for label, answer in pairs if wrong[label, answer]]


def predictions(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    pixels: Callable[[np.ndarray], np.ndarray],
    worst: int = WORST,
) -> Predictions:
    """Runs a network over held-out images.

    Args:
        predict: From inputs to logits.
        batches: Inputs and labels.
        class_names: The names of the classes.
        pixels: From inputs back to uint8 images.
        worst: How many mistakes to keep.
    """
    classes = len(class_names)
    matrix = np.zeros((classes, classes), np.int64)
    mistakes: list[Mistake] = []
    for inputs, labels in batches:
        logits = np.asarray(predict(inputs), np.float64)[:, :classes]
        answers = logits.argmax(axis=1)
        np.add.at(matrix, (labels, answers), 1)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        confidence = shifted.max(axis=1) / shifted.sum(axis=1)
        wrong = np.flatnonzero(answers != labels)
        chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:worst]
        if len(chosen):
            for place, image in zip(chosen, pixels(inputs[chosen]), strict=True):
                label, answer = int(labels[place]), int(answers[place])
                mistakes.append(Mistake(image, label, answer, float(confidence[place])))
        mistakes = sorted(mistakes, key=lambda mistake: -mistake.confidence)[:worst]
    return Predictions(matrix, tuple(class_names), tuple(mistakes))


@dataclasses.dataclass(frozen=True)
class Converted:
    """A run's converted file.

    Args:
        name: Its file name.
        size: Its bytes.
        operators: Its operators with their counts, as text; none where they are not known.
        agreement: How well it agrees with Keras, in words; empty where that is not known of this file.
        remark: Where the file itself could not be looked at: why, and from where the rest is known.
    """

    name: str
    size: int
    operators: tuple[str, ...]
    agreement: str = ""
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Material:
    """What a report says of one run.

    Args:
        name: Names the run.
        config: Its configuration, plain values.
        recipe: The recipe from which it started, plain values; the run may have changed any of it.
        environment: Versions and hardware.
        metrics: The rows of metrics.csv; none of a run whose weights were imported.
        records: What `observe.KernelDiagnostics` wrote.
        network: The network with the weights of the last complete epoch.
        diagnostics: What is worth watching in the training of the run's method (`Method.diagnostics`).
        full_recipe: `published_top1` and `epochs` of the paper's own recipe, where the run's is a shorter one
            for the same method, network and dataset; otherwise `None`.
        predictions: What the network says of the held-out images; `None` leaves that part out.
        converted: The converted file; `None` where the run was not converted.
    """

    name: str
    config: Mapping[str, Any]
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, str]]
    records: Sequence[Mapping[str, Any]]
    network: tf.keras.Model
    diagnostics: Sequence[str]
    full_recipe: Mapping[str, Any] | None = None
    predictions: Predictions | None = None
    converted: Converted | None = None


@dataclasses.dataclass(frozen=True)
class Report(InNotebooks):
    """What was written, and the figures in it.

    Args:
        path: The HTML file.
        tables: The CSV files.
        figures: Plain values for JSON, one dictionary for each run.
    """

    path: Path
    tables: tuple[Path, ...]
    figures: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "report": str(self.path),
            "tables": [str(path) for path in self.tables],
            "runs": list(self.figures),
        }

    def __str__(self) -> str:
        return f"{self.path}: {len(self.tables)} CSV files beside it"

    def _repr_html_(self) -> str:
        """A link, for notebooks."""
        return f'<a href="{self.path}">{self.path}</a> ({len(self.tables)} tables beside it)'


def write(materials: Sequence[Material], path: str | Path) -> Report:
    """Writes the page, over one of the same name, and its tables beside it.

    Args:
        materials: One or several runs.
        path: The HTML file.

    Raises:
        UserError: the folder does not take the files.
    """
    import jinja2
    from markupsafe import Markup

    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} to")
    names = _distinct([material.name for material in materials])
    parts = [_Part(material, name) for material, name in zip(materials, names, strict=True)]
    tables: list[Path] = []
    for part in parts:
        prefix = path.stem if len(parts) == 1 else f"{path.stem}.{_file_name(part.name)}"
        for name, rows in part.tables():
            file = path.with_name(f"{prefix}.{name}.csv")
            files.write_text(file, _csv(rows))
            tables.append(file)
            part.links.append((name, file.name))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["chart"] = Markup  # our own SVG, whose texts are escaped where it is made
    page = environment.get_template("page.html.j2").render(
        style=Markup(plots.STYLE), parts=parts, **_shared(parts)
    )
    files.write_text(path, page)
    return Report(path, tuple(tables), tuple(part.figures for part in parts))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where files that are called after them would be the same."""
    if len({_file_name(name).casefold() for name in names}) == len(names):
        return list(names)
    return [f"{number}-{name}" for number, name in enumerate(names, start=1)]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _shared(parts: Sequence[_Part]) -> dict[str, Any]:
    """What stands above the runs: results, curves, settings that differ."""
    runs = {part.name: part.material.metrics for part in parts if part.material.metrics}
    published: dict[float, str] = {}  # runs of one paper share a line
    for part in parts:
        if part.paper is not None:
            top1, epochs = part.paper
            published[top1] = f"paper{f': {part.title}' if len(parts) > 1 else ''}, {epochs} epochs"
    charts = []
    if runs:
        charts = [
            plots.accuracy(runs, {name: 100 * value for value, name in published.items()}),
            plots.over_epochs(runs, "loss", "training loss"),
            plots.over_epochs(runs, "val_loss", "test loss"),
            plots.over_epochs(runs, "learning_rate", "learning rate"),
        ]
    settings = differing([part.material.config for part in parts]) if len(parts) > 1 else {}
    return {
        "title": parts[0].title if len(parts) == 1 else f"{len(parts)} runs",
        "names": [part.name for part in parts],
        "charts": [chart for chart in charts if chart],
        "settings": {key: [_plain(value) for value in values] for key, values in settings.items()},
    }


class _Part:
    """One run, as the template reads it."""

    def __init__(self, material: Material, name: str) -> None:
        self.material, self.name = material, name
        recipe = material.config["recipe"]
        dataset = recipe["dataset"]
        if dataset == "folder":  # own pictures are known by the name of their folder
            dataset = Path(material.config.get("data_dir") or "").name or dataset
        method = recipe["method"]["name"] if isinstance(recipe["method"], Mapping) else recipe["method"]
        self.title = " · ".join((method, recipe["model"], dataset))
        self.links: list[tuple[str, str]] = []
        # The figures of layers that mean something for the method, in the method's order.
        self.layer_figures = [name for name in material.diagnostics if name in observe.LAYER_FIGURES]
        everything = material.records
        self.records = [record for record in everything if record["phase"] == everything[-1]["phase"]]
        last = {record["layer"]: record.get("epoch_flips") for record in self.records}
        self.layers: dict[str, dict[str, Any]] = {
            kernel.name: {"epoch_flips": last.get(kernel.name), **observe.measure(kernel)}
            for kernel in observe.binary_kernels(material.network)
        }
        self.account: Account = accounting.account(material.network)
        self.published = accounting.published(self.account)
        self.figures = {
            "run": name,
            **_result(material),
            "full_recipe": material.full_recipe,
            "differences": differences(material.recipe, recipe),
            "layers": {
                name: {key: values.get(key) for key in self.layer_figures}
                for name, values in self.layers.items()
            },
            "cost": self.account.total.to_dict(),
            "classes": self._classes(),
        }

    @property
    def paper(self) -> tuple[float, int] | None:
        """The paper's top-1 accuracy, with the run's recipe or else with the full one, and its epochs."""
        if self.figures["published_top1"] is not None:
            epochs = sum(phase["epochs"] for phase in self.material.recipe["phases"])
            return self.figures["published_top1"], epochs
        full = self.material.full_recipe
        return None if full is None else (full["published_top1"], full["epochs"])

    def _classes(self) -> dict[str, float | None] | None:
        seen = self.material.predictions
        if seen is None:
            return None
        return dict(zip(seen.class_names, map(_rounded, seen.class_accuracy()), strict=True))

    def caveats(self) -> Iterator[str]:
        """What must be known before the result is compared with the paper's."""
        figures, limit = self.figures, self.material.config.get("limit")
        if figures["published_top1"] is None and figures["full_recipe"] is None:
            yield "The paper has no result for this combination of network and dataset with these options."
        if not figures["epochs"]:
            yield "No epoch was trained here: the weights were imported."
        elif figures["epochs"] < figures["epochs_planned"]:
            yield f"The run is not complete: {figures['epochs']} of {figures['epochs_planned']} epochs."
        if limit is not None:
            yield f"Only {limit} images of each split were used."

    def diagnostics(self) -> list[str]:
        """Charts of what the method says is worth watching."""
        rows, records = self.material.metrics, self.records
        charts = []
        for name in self.material.diagnostics:
            if name in observe.LAYER_FIGURES and records:
                charts.append(plots.layers(records, name, *observe.LAYER_FIGURES[name]))
            elif name not in observe.LAYER_FIGURES and rows:  # also what a method of another package logs
                title, factor = observe.STEP_FIGURES.get(name, (name.replace("_", " "), 1))
                charts.append(plots.over_epochs({"": rows}, name, title, factor))
        return [chart for chart in charts if chart]

    def histograms(self) -> list[str]:
        """Weights of some layers at the start and after the last epoch."""
        if "histogram" not in self.material.diagnostics or not self.layers:
            return []
        by_layer = {
            name: [record for record in self.records if record["layer"] == name]
            or [{"epoch": "now", **values}]
            for name, values in self.layers.items()
        }
        clamp = "dead_share" in self.material.diagnostics
        edges = observe.EDGES.tolist()
        return [
            plots.histogram(name, by_layer[name], edges, clamp=clamp)
            for name in plots.evenly(list(by_layer), _HISTOGRAMS)
        ]

    def codebooks(self) -> list[tuple[str, str]]:
        """The codebook of every layer that has one, and its history."""
        charts = []
        for name, values in self.layers.items():
            if values["codebook"]:
                past = [(plots.moment(record), record["codebook"]) for record in self._snapshots(name)]
                drawn = plots.history(name, past) if len(past) > 1 else ""
                charts.append((plots.tiles(name, values["codebook"]), drawn))
        return charts

    def _snapshots(self, layer: str) -> list[Mapping[str, Any]]:
        """The records of the last phase in which the history of a layer's codebook is told."""
        records = [record for record in self.records if record["layer"] == layer and record.get("codebook")]
        return plots.evenly(records, _SNAPSHOTS)

    def evaluation(self) -> dict[str, Any] | None:
        """Confusion matrix, accuracy by class and the worst mistakes."""
        seen = self.material.predictions
        if seen is None:
            return None
        names, few = seen.class_names, len(seen.class_names) <= _MATRIX
        accuracies = zip(names, seen.class_accuracy(), strict=True)
        by_class = [(name, 100 * value) for name, value in accuracies if not math.isnan(value)]
        if not few:
            by_class = sorted(by_class, key=lambda pair: pair[1])[:20]
        title = "accuracy by class (%)" if few else "the 20 classes with the lowest accuracy (%)"
        return {
            "images": int(seen.matrix.sum()),
            "matrix": plots.confusion(seen.matrix.tolist(), names) if few else "",
            "bars": plots.bars(title, by_class),
            "confusions": [(names[a], names[b], count) for a, b, count in seen.confusions()],
            "mistakes": [
                {
                    "source": f"data:image/png;base64,{base64.b64encode(png(mistake.image)).decode()}",
                    "label": names[mistake.label],
                    "answer": names[mistake.answer],
                    "confidence": f"{mistake.confidence:.1%}",
                }
                for mistake in seen.mistakes
            ],
        }

    def costs(self) -> list[list[str]]:
        """A row for every layer that has a kernel, and one for all others together."""
        rows = []
        for layer in self.account.layers:
            if layer.kernel is not None:
                kernel = "×".join(map(str, layer.kernel))
                rows.append([layer.name, kernel, layer.widths, *_cost(layer.cost)])
        others = [layer.cost for layer in self.account.layers if layer.kernel is None]
        if others:
            rows.append([f"{len(others)} other layers", "", "", *_cost(sum(others[1:], others[0]))])
        return rows

    def total(self) -> list[list[str]]:
        """Name and value of what papers report of a whole network, and what its paper prints, if it does."""
        total = self.account.total
        bits = "" if total.bits_per_weight is None else f"{total.bits_per_weight:.3g}"
        rows = [
            ("bits per binary weight", bits, "bits_per_weight", 1.0, ""),
            ("binary parameters", f"{total.binary_parameters:,}", "", 1.0, ""),
            ("binary bits", f"{total.binary_bits / 1e6:.4g} Mbit", "binary_bits", 1e6, "Mbit"),
            ("real parameters", f"{total.real_parameters:,}", "", 1.0, ""),
            ("memory", f"{total.memory_bits / 1e6:.4g} Mbit", "memory_bits", 1e6, "Mbit"),
            ("bit operations", f"{total.bit_operations / 1e9:.4g} G", "bit_operations", 1e9, "G"),
            ("real multiply-accumulates", f"{total.real_macs / 1e6:.4g} M", "", 1.0, ""),
            ("operations (real + binary / 64)", f"{total.operations / 1e6:.4g} M", "operations", 1e6, "M"),
        ]
        rows = [row for row in rows if row[1]]
        if not self.published:
            return [[name, value] for name, value, *_ in rows]
        return [
            [name, value, f"{self.published[key] / unit:.4g} {end}" if key in self.published else ""]
            for name, value, key, unit, end in rows
        ]

    def layer_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the method's figures for every binary layer, after the last epoch."""
        names = self.layer_figures
        header = ["layer", *(observe.LAYER_FIGURES[name][0] for name in names)]
        rows = []
        for layer, values in self.layers.items():
            cells = [
                "" if values[n] is None else f"{observe.LAYER_FIGURES[n][1] * values[n]:.4g}" for n in names
            ]
            rows.append([layer, *cells])
        return header, rows if names else []

    def settings(self) -> str:
        """The run's recipe as JSON."""
        return json.dumps(self.material.config["recipe"], indent=2, ensure_ascii=False)

    def machine(self) -> list[tuple[str, str]]:
        """What it ran on."""
        values = dict(self.material.environment)
        packages = values.pop("packages", {})
        return [*((key, _plain(value)) for key, value in values.items()), *packages.items()]

    def tables(self) -> Iterator[tuple[str, list[list[Any]]]]:
        """Name and rows of every table that goes into a CSV file."""
        rows = self.material.metrics
        if rows:
            header = list(dict.fromkeys(key for row in rows for key in row))
            yield "metrics", [header, *([row.get(key, "") for key in header] for row in rows)]
        names = self.layer_figures
        fields = [field.name for field in dataclasses.fields(accounting.Cost)]
        layers: list[list[Any]] = [["layer", "kind", "kernel", "binary_input", *fields, *names]]
        for layer in self.account.layers:
            watched = self.layers.get(layer.name.rpartition("/")[2], {})
            kernel = "" if layer.kernel is None else "x".join(map(str, layer.kernel))
            cost = [getattr(layer.cost, name) for name in fields]
            known = _cells(watched, names)
            layers.append([layer.name, layer.kind, kernel, layer.binary_input, *cost, *known])
        yield "layers", layers
        yield from self._layer_tables()
        seen = self.material.predictions
        if seen is not None:
            images = seen.matrix.sum(axis=1).tolist()
            accuracies = ["" if math.isnan(value) else round(value, 6) for value in seen.class_accuracy()]
            classes = zip(seen.class_names, images, accuracies, strict=True)
            yield "classes", [["class", "images", "accuracy"], *map(list, classes)]
            counts = zip(seen.class_names, seen.matrix.tolist(), strict=True)
            yield "confusion", [["true class", *seen.class_names], *([name, *row] for name, row in counts)]

    def _layer_tables(self) -> Iterator[tuple[str, list[list[Any]]]]:
        """What the charts of binary layers are drawn from.

        The last rows of a table, of no phase and no epoch, are those of the saved weights. They are the only
        ones where nothing was recorded, and differ from the last epoch's where weights were averaged.
        """
        saved = [{"phase": "", "epoch": "", "layer": name, **values} for name, values in self.layers.items()]
        records = [*self.material.records, *saved]
        place = ("phase", "epoch", "layer")
        names = self.layer_figures
        if names and saved:
            figures = [[*_cells(record, place), *_cells(record, names)] for record in records]
            yield "layer-epochs", [[*place, *names], *figures]
        if "histogram" in self.material.diagnostics and saved:
            # A column for each bin, called by its lower edge.
            bins = [f"{low:g}" for low in observe.EDGES[:-1]]
            counts = [[*_cells(r, place), *r["histogram"]] for r in records if r.get("histogram")]
            yield "histograms", [[*place, *bins], *counts]
        books = [
            record for end in saved if end.get("codebook") for record in (*self._snapshots(end["layer"]), end)
        ]
        if books:
            # Signs have columns of their own, row by row: spreadsheets take "+-+" for a formula.
            signs = [f"sign_{element}" for element in range(codebook.SLICE)]
            patterns: list[list[Any]] = [[*place, "position", "pattern", *signs, "slices", "share"]]
            for record in books:
                total = max(sum(count for _, count in record["codebook"]), 1)
                for position, (number, count) in enumerate(record["codebook"]):
                    shown = [1 if number >> bit & 1 else -1 for bit in range(codebook.SLICE)]
                    share = round(count / total, 6)
                    patterns.append([*_cells(record, place), position, number, *shown, count, share])
            yield "codebooks", patterns


def _cost(cost: accounting.Cost) -> list[str]:
    counts = (cost.real_macs, cost.binary_macs, cost.bit_operations)
    return [
        f"{cost.binary_bits:,}" if cost.binary_bits else "",
        f"{cost.real_parameters:,}" if cost.real_parameters else "",
        *(f"{count / 1e6:.3f}" if count else "" for count in counts),
    ]


def _cells(values: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    """The values of these names as they stand in a CSV file: empty where there are none."""
    return ["" if values.get(name) is None else values[name] for name in names]


def _result(material: Material) -> dict[str, Any]:
    """Accuracies as shares: of the last epoch, of the best epoch of the last phase, and the paper's."""
    recipe, rows = material.config["recipe"], material.metrics
    published = recipe["published_top1"]
    result: dict[str, Any] = {
        "epochs": len(rows),
        "epochs_planned": sum(phase["epochs"] for phase in recipe["phases"]),
        "phase": rows[-1]["phase"] if rows else recipe["phases"][-1]["name"],
        **dict.fromkeys(("top1", "top5", "best_top1", "best_epoch", "difference")),
        "published_top1": published,
        "published_top5": recipe["published_top5"],
        "seconds": round(sum(value or 0 for value in plots.column(rows, "seconds")), 1),
    }
    last = [row for row in rows if row["phase"] == result["phase"]]
    top1 = plots.column(last, "val_accuracy")
    known = [(value, index) for index, value in enumerate(top1) if value is not None]
    if known:
        best, place = max(known, key=lambda pair: (pair[0], -pair[1]))
        top5 = plots.column(last, "val_top5_accuracy")
        result |= {"best_top1": _rounded(best), "best_epoch": int(last[place]["epoch"])}
        result |= {"top1": _rounded(top1[-1]), "top5": _rounded(top5[-1])}
        if published is not None and top1[-1] is not None:
            result["difference"] = _rounded(top1[-1] - published)
    return result


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


_INCLUDED = "included"  # stands for an object of a list, beside its own settings
_NOT_SETTINGS = (
    *("recipe.note", "recipe.duration", "recipe.published_top1", "recipe.published_top5"),
    *("class_names", "format"),
)


def differing(configurations: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same in all configurations: each one's value by dotted path.

    A list of objects counts by their names, so that phases are compared with those of the same name. A phase
    that some configurations leave out is one setting, "included" in the others.

    Example:
        >>> differing([{"seed": 1, "recipe": {"model": "a"}}, {"seed": 2, "recipe": {"model": "a"}}])
        {'seed': [1, 2]}
    """
    flat = [dict(_leaves(configuration)) for configuration in configurations]
    keys = dict.fromkeys(key for values in flat for key in values)
    objects = [key for key in keys if any(values.get(key) == _INCLUDED for values in flat)]
    table = {}
    for key in keys:
        around = [name for name in objects if key.startswith(f"{name}.")]
        compared = [values.get(key) for values in flat if all(name in values for name in around)]
        if key not in _NOT_SETTINGS and any(value != compared[0] for value in compared):
            table[key.removeprefix("recipe.")] = [values.get(key) for values in flat]
    return table


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for position, item in enumerate(value):
            name = item.get("name", position) if isinstance(item, Mapping) else position
            yield f"{path}.{name}", _INCLUDED
            yield from _leaves(item, f"{path}.{name}")
    elif value not in ({}, []):
        yield path, list(value) if isinstance(value, tuple) else value


def differences(recipe: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """In what a run departs from its recipe, as `setting: recipe → run` lines."""
    lines = []
    for key, (old, new) in differing([{"recipe": recipe}, {"recipe": actual}]).items():
        name = key.removeprefix("phases.")
        if _INCLUDED in (old, new):
            what = name if name == key else f"phase {name}"
            lines.append(f"{what} {'left out' if new is None else 'added'}")
        else:
            lines.append(f"{name}: {_plain(old)} → {_plain(new)}")
    return lines


def _plain(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def png(image: np.ndarray) -> bytes:
    """An image, uint8 `(height, width, 1 or 3)`, as a PNG file."""
    height, width, channels = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
