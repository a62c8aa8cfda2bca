"""The report of a run: pictures, and a Markdown file that sets the result beside the paper's."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bnn_tf import observe
from bnn_tf._tensorflow import tf
from bnn_tf.observe import BinaryKernel
from bnn_tf.report import plots
from bnn_tf.report.accounting import Cost, account

_SNAPSHOTS = 8


@dataclasses.dataclass(frozen=True)
class Material:
    """What a report is about.

    Args:
        name: Names the run.
        config: Its configuration, plain values.
        recipe: The recipe from which it started, plain values; the run may have changed any of it.
        environment: Versions and hardware.
        metrics: The rows of metrics.csv; none of a run whose weights were imported.
        records: What `observe.KernelDiagnostics` wrote.
        network: The network with the weights of the last complete epoch.
    """

    name: str
    config: Mapping[str, Any]
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, str]]
    records: Sequence[Mapping[str, Any]]
    network: tf.keras.Model


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written, and the figures in it.

    Args:
        path: The Markdown file.
        pictures: The pictures, in the order of the text.
        figures: Plain values for JSON.
    """

    path: Path
    pictures: tuple[Path, ...]
    figures: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.figures, "report": str(self.path), "pictures": [str(path) for path in self.pictures]}


def write(material: Material, folder: Path) -> Report:
    """Writes `report.md` and its pictures into a folder, over files of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = observe.binary_kernels(material.network)
    layers = {kernel.name: observe.measure(kernel) for kernel in found}
    pictures = [
        (caption, plots.save(figure, folder / f"{name}.png"))
        for name, caption, figure in _pictures(material, found, layers)
    ]
    figures = {
        "run": material.name,
        **_result(material),
        "differences": differences(material.recipe, material.config["recipe"]),
        "layers": {
            name: {key: value for key, value in figures.items() if key not in ("histogram", "codebook")}
            for name, figures in layers.items()
        },
        "cost": account(material.network).total.to_dict(),
    }
    path = folder / "report.md"
    path.write_text(_text(material, figures, pictures))
    return Report(path, tuple(picture for _, picture in pictures), figures)


def _pictures(
    material: Material, found: Sequence[BinaryKernel], layers: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, Figure]]:
    """File name, caption and figure of every picture that the material allows."""
    if material.metrics:
        yield from _pictures_of_epochs(material)
    records = _last_phase(material.records)
    if records:
        yield "kernels", "Binary kernels over training", plots.diagnostics(records)
        yield "histograms", "Latent weights over training", plots.histograms(records)
    elif found:
        now = [{"layer": name, "epoch": len(material.metrics), **figures} for name, figures in layers.items()]
        yield "histograms", "Latent weights after the last epoch", plots.histograms(now)
    if found:
        yield "tau", "What a clamp at ±Q(τ) does to the weights as they are now", plots.over_tau(found)
    for name, figures in layers.items():
        if figures["codebook"]:
            yield f"codebook-{name}", f"Codebook of {name}", plots.tiles(name, figures["codebook"])
            snapshots = [(f"epoch {r['epoch']}", r["codebook"]) for r in records if r["layer"] == name]
            if len(snapshots) > 1:
                drawn = plots.history(name, plots.evenly(snapshots, _SNAPSHOTS))
                yield f"codebook-{name}-history", f"Codebook of {name} over training", drawn


def _pictures_of_epochs(material: Material) -> Iterator[tuple[str, str, Figure]]:
    published = material.config["recipe"]["published_top1"]
    yield "training", "Accuracy, loss and learning rate", plots.training(material.metrics, published)
    flips = plots.telemetry(material.metrics)
    if flips is not None:
        yield "flips", "Sign flips and silent weights", flips


def _last_phase(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for record in records if record["phase"] == records[-1]["phase"]]


def _result(material: Material) -> dict[str, Any]:
    """Accuracies in percent: last epoch, best epoch of the last phase, the paper's."""
    recipe, rows = material.config["recipe"], material.metrics
    if not rows:
        return _no_result(recipe)
    last = [row for row in rows if row["phase"] == rows[-1]["phase"]]
    top1 = 100 * plots.column(last, "val_accuracy")
    best = int(np.nanargmax(top1))
    published = recipe["published_top1"]
    return {
        "epochs": len(rows),
        "epochs_planned": sum(phase["epochs"] for phase in recipe["phases"]),
        "phase": rows[-1]["phase"],
        "top1": _rounded(top1[-1]),
        "top5": _rounded(100 * plots.column(last, "val_top5_accuracy")[-1]),
        "best_top1": _rounded(top1[best]),
        "best_epoch": int(last[best]["epoch"]),
        "published_top1": published,
        "published_top5": recipe["published_top5"],
        "difference": None if published is None else _rounded(top1[-1] - published),
        "seconds": round(float(np.nansum(plots.column(rows, "seconds"))), 1),
    }


def _no_result(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say of a run without epochs."""
    unknown = ("top1", "top5", "best_top1", "best_epoch", "difference")
    return {
        "epochs": 0,
        "epochs_planned": sum(phase["epochs"] for phase in recipe["phases"]),
        "phase": recipe["phases"][-1]["name"],
        **dict.fromkeys(unknown),
        "published_top1": recipe["published_top1"],
        "published_top5": recipe["published_top5"],
        "seconds": 0.0,
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def differences(recipe: Mapping[str, Any], actual: Mapping[str, Any], prefix: str = "") -> list[str]:
    """In what a run departs from its recipe, as `key: recipe → run` lines."""
    lines = []
    for key in dict.fromkeys([*recipe, *actual]):
        old, new, name = recipe.get(key), actual.get(key), f"{prefix}{key}"
        if key == "phases":
            for before, after in zip(recipe[key], actual[key], strict=False):
                lines += differences(before, after, f"{after['name']}.")
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{name}.")
        elif json.dumps(old) != json.dumps(new):
            lines.append(f"{name}: {_plain(old)} → {_plain(new)}")
    return lines


def _plain(value: Any) -> str:
    return "unset" if value is None else value if isinstance(value, str) else json.dumps(value)


def _text(material: Material, figures: Mapping[str, Any], pictures: Sequence[tuple[str, Path]]) -> str:
    recipe = material.config["recipe"]
    parts = [
        f"# {recipe['method']} · {recipe['model']} · {recipe['dataset']}",
        f"Run `{material.name}`, seed {material.config['seed']}. Recipe: {recipe['note']}.",
        "## Result",
        _result_table(figures, recipe),
        *_caveats(material, figures),
        "## Cost",
        _cost_table(account(material.network).total),
    ]
    if figures["layers"]:
        parts += ["## Binary layers after the last epoch", _layer_table(figures["layers"])]
    parts += ["## Pictures", *(f"{caption}:\n\n![{caption}]({path.name})" for caption, path in pictures)]
    settings = json.dumps(recipe["phases"], indent=2)
    parts += [
        "## Settings",
        f"```json\n{settings}\n```",
        "## Environment",
        _environment(material.environment),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} %"


def _result_table(figures: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    after = f"this run, epoch {figures['epochs']} of {figures['epochs_planned']}"
    best = f"its best epoch on these images: {figures['best_epoch']}"
    if len(recipe["phases"]) > 1:
        best += f" of phase {figures['phase']}"
    rows = []
    if figures["epochs"]:
        rows.append([after, _percent(figures["top1"]), _percent(figures["top5"])])
        rows.append([best, _percent(figures["best_top1"]), ""])
    if figures["published_top1"] is not None:
        rows.append(["the paper", _percent(figures["published_top1"]), _percent(figures["published_top5"])])
    if figures["difference"] is not None:
        rows.append(["this run − the paper (points)", f"{figures['difference']:+.2f}", ""])
    return _table([f"test images of {recipe['dataset']}", "top-1", "top-5"], rows)


def _caveats(material: Material, figures: Mapping[str, Any]) -> Iterator[str]:
    """What must be known before the result is compared with the paper's."""
    if figures["published_top1"] is None:
        yield "The paper has no result for this combination of network and dataset."
    if not figures["epochs"]:
        yield "No epoch was trained here: the weights were imported. `bnn-tf evaluate` measures them."
    elif figures["epochs"] < figures["epochs_planned"]:
        yield f"The run is not complete: {figures['epochs']} of {figures['epochs_planned']} epochs."
    limit = material.config["limit"]
    if limit is not None:
        yield f"Only {limit} images of each split were used."
    if figures["differences"]:
        changed = "\n".join(f"- `{line}`" for line in figures["differences"])
        yield f"Settings that differ from the recipe (recipe → run):\n\n{changed}"


def _cost_table(total: Cost) -> str:
    rows = [
        ["binary parameters", f"{total.binary_parameters:,} ({total.binary_bits / 1e6:.4g} Mbit)"],
        ["real parameters", f"{total.real_parameters:,}"],
        ["memory", f"{total.memory_bits / 1e6:.4g} Mbit"],
        ["binary multiply-accumulates", f"{total.binary_macs:,}"],
        ["bit operations", f"{total.bit_operations:,.0f}"],
        ["real multiply-accumulates", f"{total.real_macs:,}"],
    ]
    if total.bits_per_weight is not None:
        rows.insert(0, ["bits per binary weight", f"{total.bits_per_weight:.2g}"])
    return _table(["", "all layers"], rows)


def _layer_table(layers: Mapping[str, Mapping[str, Any]]) -> str:
    header = ["layer", "τ", "dead weights", "quantization error", "bits per sign", "bits per 3×3 slice"]
    rows = [
        [
            name,
            f"{figures['tau']:.4g}",
            _percent(100 * figures["dead_share"]),
            _percent(100 * figures["quantization_error"]),
            f"{figures['sign_entropy']:.4f}",
            "" if figures["pattern_entropy"] is None else f"{figures['pattern_entropy']:.2f}",
        ]
        for name, figures in layers.items()
    ]
    explanation = (
        "Dead weights lie outside ±Q(τ), where ReCU's clamp gives no gradient. The quantization error is the "
        "share of energy that signs with the best scale per channel miss, after the clamp. Methods without τ "
        f"are measured at τ = {observe.REFERENCE_TAU}. The last columns are entropies of what is stored."
    )
    return f"{explanation}\n\n{_table(header, rows)}"


def _environment(environment: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    keys = ("python", "platform", "cpus", "gpus", "started")
    rows = [[key, json.dumps(environment[key]).strip('"')] for key in keys if key in environment]
    return _table(["", ""], [*rows, ["packages", packages]])
