"""`bnn-tf summary`."""

import dataclasses
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.commands import options, tables, targets
from bnn_tf.errors import UsageError, unknown

if TYPE_CHECKING:
    from bnn_tf._tensorflow import tf
    from bnn_tf.analysis import Account, Cost, LayerCost


class _Size(click.ParamType):
    name = "HEIGHTxWIDTH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        match = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is no size such as 224 or 192x256", param, ctx)
        return int(match[1]), int(match[2] or match[1])


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@options.model
@options.method
@click.option("--bits", type=int, help="Bits per 3×3 slice of --method subbit.")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Option of the method or the model: method.OPTION, model.OPTION, such as model.num_classes=10.",
)
@click.option("--input-size", type=_Size(), help="Count for images of this size, such as 224 or 192x256.")
@options.json_option
def summary(
    target: Path | None,
    model: str | None,
    method: str | None,
    bits: int | None,
    settings: tuple[str, ...],
    input_size: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Layers, bits and multiply-accumulates of TARGET or of --model with --method.

    TARGET is a run directory or a saved Keras model. Prints Larq's table, then what the papers report: bits
    per weight, binary parameters, bit operations (less what a sub-bit codebook shares), memory, operations.
    """
    if (target is None) == (model is None):
        raise UsageError("name a run or saved model, or a --model (`bnn-tf models` lists them)")
    if target is not None:
        if method is not None or bits is not None or settings:
            raise UsageError(f"--method, --bits and --set go with --model; {target} has its own")
        network = _existing(target, input_size)
    else:
        network = _new(str(model), method, bits, settings, input_size)
    from bnn_tf import analysis

    counted = analysis.account(network)
    printed = analysis.published(counted)
    if as_json:
        options.emit({**counted.to_dict(), "published": printed}, True, "")
        return
    analysis.print_larq_summary(network)
    _print(counted, printed)


def _existing(target: Path, input_size: tuple[int, int] | None) -> "tf.keras.Model":
    """The network of a run (trained or not), or a saved model."""
    if target.suffix == ".tflite":
        raise UsageError(f"{target}: summary reads runs and saved Keras models, not .tflite files")
    if not targets.is_run(target):
        from bnn_tf import analysis

        network = targets.load_network(target)
        return network if input_size is None else analysis.at_size(network, input_size)
    from bnn_tf.training import Run, build

    config = Run.open(target).config
    recipe = dataclasses.replace(config.recipe, image_size=input_size or config.recipe.image_size)
    return build.model(recipe, len(config.class_names))


def _new(
    model: str,
    method: str | None,
    bits: int | None,
    settings: tuple[str, ...],
    input_size: tuple[int, int] | None,
) -> "tf.keras.Model":
    """The architecture with the method and its options."""
    from bnn_tf import methods
    from zoo import get_model

    builder = get_model(model)
    parameters = inspect.signature(builder).parameters
    given = _options(settings)
    if bits is not None:
        method = method or "subbit"
        given["method"]["bits"] = bits
    if input_size is not None:
        given["model"]["input_shape"] = (*input_size, 3)
    valid = [name for name in parameters if name != "method"]
    for option in given["model"]:
        if option not in valid:
            raise unknown(f"option of model {model}", option, valid)
    chosen = methods.get(method or parameters["method"].default, **given["method"])
    try:
        return builder(method=chosen, **given["model"])
    except (ValueError, TypeError) as error:
        raise UsageError(f"model {model}: {error}") from error


def _options(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What `--set` gave, for the method and for the model."""
    given: dict[str, dict[str, Any]] = {"method": {}, "model": {}}
    for text in settings:
        key, value = options.parse_setting(text)
        owner, _, option = key.partition(".")
        if owner not in given or not option:
            raise UsageError(f"--set takes method.OPTION=VALUE or model.OPTION=VALUE here, not {text!r}")
        given[owner][option] = value
    return given


_COLUMNS = ("layer", "output", "kernel", "bits W/A", "binary Mbit", "real params", "real MMAC", "binary MMAC")


def _print(account: "Account", printed: dict[str, float]) -> None:
    rows = [_row(layer) for layer in account.layers if layer.kernel is not None]
    others = [layer.cost for layer in account.layers if layer.kernel is None]
    if others:
        rows.append([f"{len(others)} other layers", "", "", "", *_figures(sum(others[1:], others[0]))])
    rows += [[], ["total", "", "", "", *_figures(account.total)]]
    tables.print_table([*_COLUMNS, "bit operations M"], rows, numbers_from=3)
    click.echo()
    lines = [
        [name, text, _comparison(key, account.total, printed)] for name, key, text in _key_figures(account)
    ]
    tables.print_table([account.model, _shape(account.input_shape), ""], lines)


def _row(layer: "LayerCost") -> list[str]:
    weights = layer.cost.bits_per_weight
    bits = f"{32 if weights is None else weights:.3g} / {1 if layer.binary_input else 32}"
    return [layer.name, _shape(layer.output), _shape(layer.kernel or ()), bits, *_figures(layer.cost)]


def _shape(shape: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape)


def _figures(cost: "Cost") -> list[str]:
    counts = (cost.real_macs, cost.binary_macs, cost.bit_operations)
    return [
        f"{cost.binary_bits / 1e6:.4f}" if cost.binary_bits else "",
        f"{cost.real_parameters:,}" if cost.real_parameters else "",
        *(f"{count / 1e6:.3f}" if count else "" for count in counts),
    ]


def _key_figures(account: "Account") -> list[tuple[str, str, str]]:
    """Name, property of `Cost`, and value of what the papers report."""
    total = account.total
    bits, operations = _printed("binary_bits", total.binary_bits), round(total.bit_operations)
    binary = [
        ("bits per weight", "bits_per_weight", f"{total.bits_per_weight or 0:.2g}"),
        ("binary parameters", "binary_bits", f"{bits} ({total.binary_parameters:,} weights)"),
        ("bit operations", "bit_operations", f"{_printed('bit_operations', operations)} ({operations:,})"),
    ]
    books = f", codebooks {total.codebook_bits / 1e6:.4f} Mbit" if total.codebook_bits else ""
    memory, work = _printed("memory_bits", total.memory_bits), _printed("operations", total.operations)
    return [
        *(binary if total.binary_parameters else []),
        ("memory", "memory_bits", f"{memory} (real parameters at 32 bits{books})"),
        ("operations", "operations", f"{work} (real multiply-accumulates + binary ones / 64)"),
    ]


def _printed(key: str, value: float) -> str:
    """A figure in the unit and with the digits of the papers' tables."""
    if key == "bit_operations":
        return f"{value / 1e9:.3f} G"
    if key == "operations":
        return f"{value:.3e}".replace("e+0", "e").replace("e+", "e")
    return f"{value / 1e6:.4g} Mbit"


def _comparison(key: str, total: "Cost", printed: dict[str, float]) -> str:
    """The paper's figure, and how far ours is from it where it prints otherwise."""
    if key not in printed:
        return ""
    ours, theirs = _printed(key, getattr(total, key)), _printed(key, printed[key])
    if ours == theirs:
        return f"published: {theirs}, the same"
    text = theirs.replace("0e8", "e8")  # the papers print two decimals
    return f"published: {text} (ours {getattr(total, key) / printed[key] - 1:+.2%})"
