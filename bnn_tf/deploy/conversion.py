"""Conversion for Larq Compute Engine, with proof that it worked."""

import collections
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import binary, layerwise
from bnn_tf.deploy import fold as folding
from bnn_tf.deploy import parity as parities
from bnn_tf.deploy.binary import BinaryConvolution
from bnn_tf.deploy.flatbuffer import Operator, operators
from bnn_tf.deploy.graph import (
    ConversionError,
    Graph,
    in_float32,
    is_functional,
    not_functional,
    read,
    read_frozen,
)
from bnn_tf.deploy.int8 import Int8, Int8Report, quantize_graph, report_of
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.deploy.lce import to_flatbuffer, with_int8_ends
from bnn_tf.errors import UserError

_BINARY = "LceBconv2d"
_DEFAULT_IMAGES = 64
_NAMED = 5  # layers named in a message
_USUAL_CAUSE = (
    "LCE is known to miscompute symmetric padding by hand (ZeroPadding2D, tf.pad) before a 'valid' "
    "convolution with stride 2 (use padding='same' there), and binary convolutions that pad a map smaller "
    "than their kernel with zeros (use pad_values=1, or larger images)."
)


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What was written.

    Attributes:
        path: The file.
        size: Its size in bytes.
        expected_binary_convs: Convolutions of the model with binary inputs and kernels.
        actual_binary_convs: `LceBconv2d` operators in the file.
        operators: How often each operator stands in the file, by name.
        parity: Comparison with Keras (with the fake-quantized network, for int8); None where it was not
            asked for.
        int8: The 8-bit parts; None where there are none.
    """

    path: Path
    size: int
    expected_binary_convs: int
    actual_binary_convs: int
    operators: dict[str, int]
    parity: parities.ParityReport | None
    int8: Int8Report | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            "path": str(self.path),
            "size": self.size,
            "expected_binary_convs": self.expected_binary_convs,
            "actual_binary_convs": self.actual_binary_convs,
            "operators": self.operators,
            "parity": self.parity.to_dict() if self.parity else None,
            "int8": dataclasses.asdict(self.int8) if self.int8 else None,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.operators.items())
        return (
            f"{self.path}: {self.size:,} bytes\n"
            f"binary convolutions: {self.actual_binary_convs} of {self.expected_binary_convs} as LceBconv2d\n"
            f"operators: {counts}\n"
            f"agreement with Keras: {self.parity or 'not checked'}" + (f"\n{self.int8}" if self.int8 else "")
        )


def convert(
    model: tf.keras.Model,
    path: str | os.PathLike[str],
    images: np.ndarray | None = None,
    parity: bool = True,
    fold: bool = True,
    int8: Int8 | str | None = None,
    calibration: np.ndarray | None = None,
) -> ConversionReport:
    """Converts a model for Larq Compute Engine and proves that it computes the same.

    The file takes one image at a time. It is written only if every convolution with binary inputs and
    kernels became an `LceBconv2d` operator, LCE's interpreter can run it, and its outputs agree with Keras'.

    Args:
        model: A functional or built Sequential model with one input of fixed size and one output.
            Mixed-precision models are rebuilt in float32 first.
        path: The `.tflite` file to write; an existing one is replaced.
        images: Preprocessed images, `(n, height, width, channels)`, for the comparison with Keras;
            64 images of standard normal noise (seed 0) by default. See `bnn_tf.deploy.parity` for the limits.
        parity: Whether to compare with Keras at all.
        fold: Whether to fold scales and biases first, see `bnn_tf.deploy.fold`.
        int8: `"mixed"`, `"full"` or an `Int8`, for 8-bit parts. What the file computes is then compared
            with the fake-quantized Keras network, and its agreement with `model` is told separately.
        calibration: Preprocessed training images on which int8 ranges are measured.

    Raises:
        ConversionError: The model cannot be converted as asked, a binary convolution stayed float, or the
            outputs disagree. Nothing is written.
    """
    settings = Int8(int8) if isinstance(int8, str) else int8
    _check_interface(model)
    model = in_float32(model)
    graph = read_frozen(model)
    expected = binary.binary_convolutions(graph)
    if fold:
        folding.fold_graph(graph)
    layers = _quantize(graph, settings, calibration, fold)
    float_ends = to_flatbuffer(graph.build())
    content = _with_ends(float_ends, settings)
    found = operators(content)
    _check_binary(expected, found, fold)
    interpreter = _interpreter(content, expected, found)
    report = _report(Path(path), content, expected, found)
    if settings is not None and calibration is not None:
        report = dataclasses.replace(report, int8=report_of(settings, len(calibration), layers, interpreter))
    if parity:
        report = _compared(report, model, graph, float_ends, interpreter, images)
    _write(Path(path), content)
    return report


def _quantize(graph: Graph, settings: Int8 | None, calibration: np.ndarray | None, folded: bool) -> list[str]:
    """Names of the layers that became int8."""
    if settings is None:
        return []
    if calibration is None:
        raise ConversionError("Int8 ranges are measured on training images; pass some as calibration=.")
    if not folded:
        raise ConversionError("Int8 needs a folded network; leave out fold=False (--no-fold).")
    return quantize_graph(graph, np.asarray(calibration), settings)


def _with_ends(content: bytes, settings: Int8 | None) -> bytes:
    if settings is None or not (settings.int8_input or settings.int8_output):
        return content
    return with_int8_ends(content, settings.int8_input, settings.int8_output)


def _report(
    path: Path, content: bytes, expected: list[BinaryConvolution], found: list[Operator]
) -> ConversionReport:
    counts = collections.Counter(operator.name for operator in found)
    return ConversionReport(
        path=path,
        size=len(content),
        expected_binary_convs=len(expected),
        actual_binary_convs=counts[_BINARY],
        operators=dict(counts.most_common()),
        parity=None,
    )


def _check_interface(model: tf.keras.Model) -> None:
    if not is_functional(model):
        raise not_functional(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"The model '{model.name}' has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "only models with one of each can be converted."
        )
    if not model.inputs[0].dtype.is_floating:
        raise ConversionError(
            f"The model '{model.name}' takes {model.inputs[0].dtype.name} images, but a converted "
            "model takes float32; build it with an input of that type."
        )
    if None in model.input_shape[1:]:
        raise ConversionError(
            f"The model '{model.name}' takes images of any size {model.input_shape[1:]}, but a converted "
            "model has a fixed one; build it with input_shape=(height, width, channels)."
        )


def _check_binary(expected: list[BinaryConvolution], found: list[Operator], folded: bool) -> None:
    actual = [operator for operator in found if operator.name == _BINARY]
    missing = len(expected) - len(actual)
    if missing <= 0:
        return
    stayed = [(c.name, binary.obstacle(c, folded)) for c in _stayed_float(expected, actual)]
    if len(stayed) > missing and any(reason for _, reason in stayed):
        stayed = [(name, reason) for name, reason in stayed if reason]
    named = [f"'{name}'" + (f" ({reason})" if reason else "") for name, reason in stayed]
    details = "; ".join(named[:_NAMED] + [f"and {len(named) - _NAMED} more"] * (len(named) > _NAMED))
    raise ConversionError(
        f"{missing} of {len(expected)} binary convolutions stayed float in LCE: {details}. LCE needs a "
        "QuantConv2D, inputs of -1 and +1 from Larq's sign (or tf.where(x >= 0, 1., -1.)), and kernels of "
        "+s or -s with s > 0 in every filter."
    )


def _stayed_float(expected: list[BinaryConvolution], actual: list[Operator]) -> list[BinaryConvolution]:
    """The layers with no operator of their own; where names do not tell, all of a shape that is short."""
    named = [c for c in expected if not any(_belongs_to(operator, c.name) for operator in actual)]
    if len(named) == len(expected) - len(actual):
        return named
    short = collections.Counter(c.geometry for c in expected)
    short.subtract(operator.inputs[1].shape[:3] for operator in actual)
    return [c for c in expected if short[c.geometry] > 0]


def _belongs_to(operator: Operator, layer: str) -> bool:
    # Outputs bear the name of what was fused last; the input is the sign that the layer itself took.
    return any(f"/{layer}/" in f"/{source}/" for source in operator.inputs[0].name.split(";"))


def _interpreter(content: bytes, expected: list[BinaryConvolution], found: list[Operator]) -> Interpreter:
    try:
        return Interpreter(content)
    except UserError as error:
        grouped = [f"'{c.name}'" for c in expected if getattr(c.layer, "groups", 1) > 1]
        unknown = {op.name for op in found if not op.name.isupper() and not op.name.startswith("Lce")}
        causes = [f"it cannot run grouped binary convolutions: {', '.join(grouped)}"] * bool(grouped)
        causes += [f"it does not know {', '.join(sorted(unknown))}"] * bool(unknown)
        reason = "; ".join(causes) or str(error.__cause__ or error).strip().splitlines()[-1]
        raise ConversionError(f"LCE's interpreter cannot run the converted model: {reason}.") from error


def _compared(
    report: ConversionReport,
    model: tf.keras.Model,
    graph: Graph,
    float_ends: bytes,
    interpreter: Interpreter,
    images: np.ndarray | None,
) -> ConversionReport:
    """The report with what the comparison of the logits tells."""
    if images is None:
        shape = (_DEFAULT_IMAGES, *model.input_shape[1:])
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
    images = np.asarray(images)
    if not len(images):
        raise ConversionError("There are no images to compare the converted model with Keras on.")
    logits = interpreter.predict(images)  # first, because it checks the shape
    if report.int8 is None:
        return dataclasses.replace(report, parity=_compare(model, graph, float_ends, images, logits))
    before = parities.compare(model.predict(images, verbose=0), logits)
    return dataclasses.replace(
        report,
        parity=_compare(graph.build(), graph, float_ends, images, logits),
        int8=dataclasses.replace(report.int8, float_agreement=before.agreement),
    )


def _compare(
    model: tf.keras.Model, deployed: Graph, content: bytes, images: np.ndarray, logits: np.ndarray
) -> parities.ParityReport:
    """Compares the logits; where they look wrong, the layers decide."""
    comparison = parities.compare(model.predict(images, verbose=0), logits)
    proof = layerwise.prove(read(model), deployed, content, images)
    comparison = dataclasses.replace(comparison, layers=proof.layers)
    if comparison.agrees:
        return comparison
    if proof.divergence is None:
        return dataclasses.replace(comparison, layers_agree=True)
    raise parities.Disagreement(
        f"The converted model disagrees with Keras: {comparison.problem}; {proof.divergence}. {_USUAL_CAUSE}",
        comparison,
    )


def _write(path: Path, content: bytes) -> None:
    """Writes the whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise ConversionError(f"Cannot write '{path}': {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
