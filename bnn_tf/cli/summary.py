"""`bnn-tf summary`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import named_network, target_or_model
from bnn_tf.errors import UsageError

if TYPE_CHECKING:
    from bnn_tf.report import Account, Cost, LayerCost


@options.command()
@target_or_model
@options.imports
@options.trust_model
@click.option("--larq", is_flag=True, help="Print Larq's own table first.")
@options.json_option
def summary(larq: bool, as_json: bool, **chosen: Any) -> None:
    """Layers, bits and multiply-accumulates of TARGET or of --model with --method.

    TARGET is a run directory or a saved Keras model. Prints for each layer and in all what the papers report:
    bits per weight, binary parameters, bit operations (less what a sub-bit codebook shares), memory,
    operations.
    """
    network = named_network(**chosen)
    if any(len(tensor.shape) == 4 and None in tensor.shape[1:3] for tensor in network.inputs):
        raise UsageError("the network takes images of any size; name one with --input-size HEIGHTxWIDTH")
    from bnn_tf.report import accounting

    counted = accounting.account(network)
    printed = accounting.published(counted)
    if as_json:
        options.emit({**counted.to_dict(), "published": printed}, True, "")
        return
    if larq:
        accounting.print_larq_summary(network)
    _print(counted, printed)


_COLUMNS = ("layer", "output", "kernel", "bits W/A", "binary Mbit", "real params", "real MMAC", "binary MMAC")


def _print(account: "Account", printed: dict[str, float]) -> None:
    rows = [_row(layer) for layer in account.layers if layer.kernel is not None]
    others = [layer.cost for layer in account.layers if layer.kernel is None]
    if others:
        rows.append([f"{len(others)} other layers", "", "", "", *_figures(sum(others[1:], others[0]))])
    rows += [[], ["total", "", "", "", *_figures(account.total)]]
    spare = ("kernel", "real params", "output", "bit operations M", "binary Mbit")
    options.print_table([*_COLUMNS, "bit operations M"], rows, numbers_from=3, spare=spare)
    click.echo()
    lines = [
        [name, text, _comparison(key, account.total, printed)] for name, key, text in _key_figures(account)
    ]
    options.print_table([account.model, _shape(account.input_shape), ""], lines)


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
    """The paper's figure, and how far the counted one is from it where they differ."""
    if key not in printed:
        return ""
    counted, published = _printed(key, getattr(total, key)), _printed(key, printed[key])
    if counted == published:
        return f"published: {published}, the same"
    text = published.replace("0e8", "e8")  # the papers print two decimals
    return f"published: {text} (the count here is {getattr(total, key) / printed[key] - 1:+.2%} off)"
