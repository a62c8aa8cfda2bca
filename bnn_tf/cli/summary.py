"""`bnn-tf summary`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import named_target, target_or_model
from bnn_tf.errors import UsageError

if TYPE_CHECKING:
    from bnn_tf.report import Account, Cost, LayerCost


@options.command()
@target_or_model
@options.imports
@options.trust_model
@click.option("--larq", is_flag=True, help="Print Larq's own table first.")
@options.json_option
def summary(
    larq: bool, as_json: bool, input_size: tuple[int, int] | None, channels: int | None, **chosen: Any
) -> None:
    """Layers, bits and multiply-accumulates of TARGET or of --model with --method.

    TARGET is a run directory, a saved Keras model, or a .tflite or .snn file. Prints for each layer and in
    all what the papers report: bits per weight, binary parameters, bit operations (less what a sub-bit
    codebook shares), memory, operations. Of a converted file it lists every operator with the bytes that its
    weights take, and of a .snn file the codebooks.
    """
    target = named_target(**chosen)
    if larq and target.is_converted:
        raise UsageError(f"--larq prints Larq's table of a Keras network, and {target} is a converted file")
    counted = target.layers(input_size, channels)

    from bnn_tf.report import accounting

    printed = accounting.published(counted)
    if as_json:
        options.emit({**counted.to_dict(), "published": printed}, True, "")
        return
    if larq:
        accounting.print_larq_summary(target.untrained(input_size, channels))
    _print_layers(counted)
    click.echo()
    lines = [
        [name, text, _comparison(key, counted.total, printed)] for name, key, text in _key_figures(counted)
    ]
    options.print_table([counted.model, _shape(counted.input_shape), ""], lines)


def _print_layers(account: "Account") -> None:
    from bnn_tf.report import Cost, LayerCost

    layers, columns = list(account.layers), list(_OF_FILES)
    if account.file_size is None:
        others = [layer.cost for layer in layers if layer.kernel is None]
        layers = [layer for layer in layers if layer.kernel is not None]
        if others:
            layers.append(LayerCost(f"{len(others)} other layers", "", None, (), sum(others, Cost())))
        columns = list(_OF_NETWORKS)
    elif not any(layer.patterns for layer in layers):
        columns.remove("codebook")
    total = LayerCost("total", "", None, (), account.total)
    rows = [[_CELLS[name](layer) for name in columns] for layer in (*layers, total)]
    rows.insert(-1, [])
    spare = [name for name in _SPARE if name in columns]
    options.print_table(columns, rows, numbers_from=columns.index("bits W/A"), spare=spare)


def _shape(shape: Sequence[int | None] | None) -> str:
    return "×".join("?" if size is None else str(size) for size in shape or ())


def _millions(count: float, digits: int = 3) -> str:
    return f"{count / 1e6:.{digits}f}" if count else ""


_CELLS: dict[str, Callable[["LayerCost"], str]] = {
    "layer": lambda layer: layer.name,
    "operator": lambda layer: layer.kind,
    "output": lambda layer: _shape(layer.output),
    "kernel": lambda layer: _shape(layer.kernel),
    "codebook": lambda layer: f"{layer.patterns} patterns, {layer.index_bits} bits" if layer.patterns else "",
    "bits W/A": lambda layer: layer.widths,
    "bytes": lambda layer: f"{layer.cost.memory_bits // 8:,}" if layer.cost.memory_bits else "",
    "binary Mbit": lambda layer: _millions(layer.cost.binary_bits, 4),
    "real params": lambda layer: f"{layer.cost.real_parameters:,}" if layer.cost.real_parameters else "",
    "real MMAC": lambda layer: _millions(layer.cost.real_macs),
    "binary MMAC": lambda layer: _millions(layer.cost.binary_macs),
    "bit operations M": lambda layer: _millions(layer.cost.bit_operations),
}
_OF_NETWORKS = (
    *("layer", "output", "kernel", "bits W/A", "binary Mbit", "real params", "real MMAC", "binary MMAC"),
    "bit operations M",
)
_OF_FILES = (
    *("layer", "operator", "output", "kernel", "codebook", "bits W/A", "bytes"),
    *("real MMAC", "binary MMAC"),
)
_SPARE = ("kernel", "real params", "output", "bit operations M", "binary Mbit", "real MMAC", "binary MMAC")


def _key_figures(account: "Account") -> list[tuple[str, str, str]]:
    """Name, property of `Cost`, and value of what the papers report."""
    total = account.total
    bits, operations = _printed("binary_bits", total.binary_bits), round(total.bit_operations)
    of_binary = [
        ("bits per weight", "bits_per_weight", f"{total.bits_per_weight or 0:.2g}"),
        ("binary parameters", "binary_bits", f"{bits} ({total.binary_parameters:,} weights)"),
        ("bit operations", "bit_operations", f"{_printed('bit_operations', operations)} ({operations:,})"),
    ]
    books = f", codebooks {total.codebook_bits / 1e6:.4f} Mbit" if total.codebook_bits else ""
    stored = "real parameters at 32 bits" if account.file_size is None else "as they are stored"
    memory, work = _printed("memory_bits", total.memory_bits), _printed("operations", total.operations)
    figures = [
        *(of_binary if total.binary_parameters else []),
        ("memory", "memory_bits", f"{memory} ({stored}{books})"),
        ("operations", "operations", f"{work} (real multiply-accumulates + binary ones / 64)"),
    ]
    if account.file_size is not None:
        kernels = [layer for layer in account.layers if layer.kernel is not None]
        binary = sum(layer.binary_input for layer in kernels)
        figures += [
            ("binary operators", "", f"{binary} of the {len(kernels)} that have a kernel"),
            ("file", "", f"{account.file_size:,} bytes"),
        ]
    return figures


def _printed(key: str, value: float) -> str:
    """A figure in the unit and with the digits of the papers' tables."""
    if key == "bit_operations":
        return f"{value / 1e9:.3f} G"
    if key == "operations":
        return f"{value:.3e}".replace("e+0", "e").replace("e+", "e")
    return f"{value / 1e6:.4g} Mbit"


def _comparison(key: str, total: "Cost", printed: dict[str, float]) -> str:
    """The paper's figure, and how far the counted one is from it where they differ."""
    if key not in printed:
        return ""
    counted, published = _printed(key, getattr(total, key)), _printed(key, printed[key])
    if counted == published:
        return f"published: {published}, the same"
    text = published.replace("0e8", "e8")  # the papers print two decimals
    return f"published: {text} (the count here is {getattr(total, key) / printed[key] - 1:+.2%} off)"
