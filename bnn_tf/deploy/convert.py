"""Conversion for Larq Compute Engine, with proof that it worked.

`convert` refuses what `lint` calls an error, counts the binary operators of the file, runs it, and compares
it with Keras: logits first, layers where the logits do not settle it (`bnn_tf.deploy.proof`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.data.images import normalize
from bnn_tf.deploy import contract as contracts
from bnn_tf.deploy import facts, lint, proof
from bnn_tf.deploy.fold import (
    Affine,
    add_bias,
    fold_graph,
    layer_of,
    scale_inputs,
    shift,
    shifted,
    take_signs_in_layers,
)
from bnn_tf.deploy.graph import (
    Call,
    ConversionError,
    Graph,
    in_float32,
    outputs_of,
    read_frozen,
    unique_name,
)
from bnn_tf.deploy.int8 import PROBABILITIES, FakeQuant, Int8, Int8Report, Range, quantize_graph
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.deploy.lce_file import (
    BINARY_CONVOLUTION,
    LceFile,
    Operator,
    require_converter,
    to_flatbuffer,
    with_int8_ends,
)
from bnn_tf.deploy.proof import Disagreement, ParityReport
from bnn_tf.errors import UserError, first_line, some
from bnn_tf.model_files import opened
from bnn_tf.values import InNotebooks, Positive, check

LEAST_AGREEMENT = 0.95
"""Smallest share of images that file and Keras must classify alike, even if only rounding is the reason."""
INPUTS = ("float32", "uint8")
"""What a file may take: preprocessed images, or raw pixels."""
_DEFAULT_IMAGES = 64
_UNSETTLED = 0.25  # share of channels

Arrays = np.ndarray | Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class ConversionReport(InNotebooks):
    """What was written.

    Attributes:
        path: The file.
        size: Its size in bytes.
        expected_binary_convs: Layers of the model that are meant to run on bits.
        actual_binary_convs: `LceBconv2d` operators in the file.
        operators: How often each operator stands in the file, by name.
        parity: Comparison with Keras (with the fake-quantized network, for int8); of several outputs the one
            that agrees least. None where it was not asked for.
        int8: The 8-bit parts; None where there are none.
        contract: What an app must know of the file, see `bnn_tf.deploy.contract.contract`: its inputs and
            outputs in the order of the model, and what was passed as `contract`.
        outputs_parity: The comparison of each output.

    Example:
        >>> print(ConversionReport(Path("net.tflite"), 66_000, 18, 18, {"LceBconv2d": 18, "ADD": 18}))
        net.tflite: 66,000 bytes
        binary convolutions: 18 of 18 as LceBconv2d
        operators: 18 LceBconv2d, 18 ADD
        agreement with Keras: not checked
    """

    path: Path
    size: int
    expected_binary_convs: int
    actual_binary_convs: int
    operators: dict[str, int]
    parity: ParityReport | None = None
    int8: Int8Report | None = None
    contract: dict[str, Any] = dataclasses.field(default_factory=dict)
    outputs_parity: tuple[ParityReport, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "path": str(self.path),
            "parity": self.parity.to_dict() if self.parity else None,
            "int8": dataclasses.asdict(self.int8) if self.int8 else None,
            "outputs_parity": [one.to_dict() for one in self.outputs_parity],
        }

    @property
    def reference(self) -> str:
        """What the file is compared with."""
        return "Keras" if self.int8 is None else "the fake-quantized network"

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.operators.items())
        if len(self.outputs_parity) > 1:
            agreement = "".join(f"\n  {one.output}: {one}" for one in self.outputs_parity)
        else:
            agreement = f" {self.parity or 'not checked'}"
        return (
            f"{self.path}: {self.size:,} bytes\n"
            f"binary convolutions: {self.actual_binary_convs} of {self.expected_binary_convs} as LceBconv2d\n"
            f"operators: {counts}\n"
            f"agreement with {self.reference}:{agreement}" + (f"\n{self.int8}" if self.int8 else "")
        )


@dataclasses.dataclass(frozen=True)
class Normalization:
    """How raw pixels become what the network takes: `(pixel / 255 - mean) / std` per channel.

    Raises:
        UserError: A mean is no finite number, a standard deviation is not above 0, or there are not as many
            of them.

    Example:
        >>> normalization = Normalization(mean=(0.5,), std=(0.25,))
        >>> normalization.apply(np.array([[[[0], [255]]]], np.uint8)).ravel()
        array([-2.,  2.], dtype=float32)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, kind in (("mean", tuple[float, ...]), ("std", tuple[Positive, ...])):
            value = getattr(self, name)
            value = value.tolist() if isinstance(value, np.ndarray) else value
            object.__setattr__(self, name, check(f"a normalization's {name}", value, kind))
        if not self.mean or len(self.mean) != len(self.std):
            raise UserError("a normalization needs as many means as standard deviations above 0")

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Normalised images, float32, to the last bit what training makes of them."""
        return normalize(np.asarray(pixels), self.mean, self.std)

    def from_images(self, images: np.ndarray) -> np.ndarray:
        """The pixels (uint8) that normalised images come from, the nearest ones; pixels stay as they are."""
        if images.dtype == np.uint8:
            return images
        pixels = (np.asarray(images, np.float64) * self.std + self.mean) * 255
        return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def convert(
    model: tf.keras.Model | str | os.PathLike[str],
    path: str | os.PathLike[str],
    images: Arrays | None = None,
    *,
    parity: bool = True,
    fold: bool = True,
    int8: Int8 | str | None = None,
    calibration: Arrays | None = None,
    batch: int = 1,
    input: str = "float32",
    normalization: Normalization | None = None,
    contract: Mapping[str, Any] | None = None,
    allow_disagreement: bool = False,
) -> ConversionReport:
    """Converts a model for Larq Compute Engine and proves that it computes the same.

    The file is written only if `lint` has no error, every layer that is meant to be binary became an
    `LceBconv2d` operator, LCE's interpreter can run it, and its outputs agree with Keras'. Several inputs and
    outputs keep their order and their names.

    Args:
        model: A functional or built Sequential model with inputs of fixed size, or the path of a saved one.
            Mixed-precision models are rebuilt in float32 first.
        path: The `.tflite` file to write; an existing one is replaced.
        images: Preprocessed images, `(n, height, width, channels)`, for the comparison with Keras, one array
            for each input; 64 images of standard normal noise (seed 0) by default. See `bnn_tf.deploy.proof`
            for the limits.
        parity: Whether to compare with Keras at all.
        fold: Whether to fold scales and biases first, see `bnn_tf.deploy.fold`.
        int8: `"classifier"`, `"mixed"`, `"plus"`, `"full"`, `"auto"` or an `Int8`, for 8-bit parts. What the
            file computes is then compared with the fake-quantized Keras network, and its agreement with
            `model` is told separately.
        calibration: Preprocessed training images on which int8 ranges are measured.
        batch: Images that the file takes at once.
        input: `"float32"` for preprocessed images, `"uint8"` for raw pixels. Then the normalization becomes
            part of the first convolution; where that pads with zeros, one subtraction is left before it.
        normalization: What the network was trained with; for `input="uint8"`.
        contract: What an app must know of the images, e.g. `mean`, `std`, `resize` and `labels`. It is stored
            in the file, as JSON and as TFLite metadata (`bnn_tf.deploy.contract`), with the names, shapes and
            meanings of inputs and outputs, which are stored without it too.
        allow_disagreement: Whether to write the file although less than 95 % of the images are classified
            as by Keras, if each layer by itself agrees.

    Raises:
        ConversionError: The model cannot be converted as asked, a binary layer stayed float, or the outputs
            disagree. Nothing is written.

    Example:
        >>> import tempfile, zoo
        >>> model = zoo.CifarResNet20(method="bireal", input_shape=(32, 32, 3), num_classes=10)
        >>> report = convert(model, tempfile.mkdtemp() + "/model.tflite", parity=False)
        >>> report.actual_binary_convs
        18
    """
    model = opened(model)
    settings = Int8(int8) if isinstance(int8, str) else int8
    require_converter()
    _check_arguments(model, settings, calibration, fold, batch, input, normalization)
    model = in_float32(model)
    graph = read_frozen(model)
    original = read_frozen(model) if fold else graph
    if fold:
        fold_graph(graph)
    if errors := lint.lint_graphs(model, original, graph if fold else None).errors:
        raise _refused(model.name, errors)
    expected = lint.Network(model, original).binary
    pixels = normalization if input == "uint8" else None
    if pixels is not None:
        take_pixels(graph, pixels)
    int8_report = None
    if settings is not None and calibration is not None:
        ranged_on = [pixels.from_images(one) if pixels else one for one in _as_list(calibration)]
        int8_report = quantize_graph(graph, ranged_on, settings)
    file = with_float_ends = LceFile(to_flatbuffer(graph.build(), batch, input))
    _check_outputs(model, file)
    if settings is not None and (settings.int8_input or settings.int8_output):
        file = LceFile(with_int8_ends(file.content, settings.int8_input, settings.int8_output))
    meanings = [_meaning(graph.producer(tensor)) for tensor in graph.outputs]
    description = contracts.contract(file, meanings, contract or {})
    file = LceFile(contracts.stored(file, description, model.name))
    _check_binary([layer.name for layer in expected], file)
    try:
        interpreter = Interpreter(file, trusted=True)
    except UserError as error:
        raise ConversionError(f"the converted file cannot be used: {first_line(error)}") from error
    report = ConversionReport(
        path=Path(path),
        size=len(file.content),
        expected_binary_convs=len(expected),
        actual_binary_convs=file.counts().get(BINARY_CONVOLUTION, 0),
        operators=file.counts(),
        int8=int8_report and int8_report.of_file(file, settings or Int8()),
        contract=description,
    )
    if parity:
        inputs, taken = _examples(model, images, pixels)
        outputs = list(interpreter.predict_all(taken).values())
        report = _compared(report, model, graph, with_float_ends, inputs, taken, outputs)
        if not allow_disagreement:
            _check_agreement(report, model, inputs)
    files.write_bytes(path, file.content)
    return report


def _meaning(call: Call) -> str:
    """What the numbers of an output are, by the layer that makes it."""
    inner = facts.of_function(call.layer.config.get("activation"))
    if call.layer.kind is FakeQuant:
        limits = Range(call.layer.config["minimum"], call.layer.config["maximum"])
        return "probabilities" if limits == PROBABILITIES else "logits"
    return "probabilities" if facts.of(call).probabilities or inner.probabilities else "logits"


def _as_list(arrays: Arrays) -> list[np.ndarray]:
    return [np.asarray(one) for one in arrays] if isinstance(arrays, list | tuple) else [np.asarray(arrays)]


# What cannot be converted -----------------------------------------------------------------------------


def _check_arguments(
    model: tf.keras.Model,
    settings: Int8 | None,
    calibration: Arrays | None,
    fold: bool,
    batch: int,
    input: str,
    normalization: Normalization | None,
) -> None:
    if (finding := lint.obstacle(model)) is not None:
        raise _refused(getattr(model, "name", str(model)), (finding,))
    if settings is not None and calibration is None:
        raise ConversionError("Int8 ranges are measured on training images; pass some as calibration=")
    if settings is not None and not fold:
        raise ConversionError("Int8 needs a folded network; leave out fold=False")
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ConversionError(f"batch must be a whole number above 0, not {batch!r}")
    if input not in INPUTS:
        raise ConversionError(f"input must be one of {', '.join(INPUTS)}, not {input!r}")
    if input == "uint8":
        if normalization is None:
            raise ConversionError("a file that takes raw pixels needs the normalization of the network")
        channels = {tensor.shape[-1] for tensor in model.inputs}
        if channels != {len(normalization.mean)}:
            raise ConversionError(
                f"the normalization has {len(normalization.mean)} channels, the model's input "
                f"{', '.join(map(str, channels))}"
            )
        if settings is not None and settings.int8_input:
            raise ConversionError("a file takes raw pixels or int8 images, not both")


def _refused(name: str, errors: Sequence[lint.Finding]) -> ConversionError:
    named = [f"'{one.layer}' ({one.code}): {one.reason}" for one in errors]
    remedies = list(dict.fromkeys(one.remedy for one in errors))
    more = f"; and {len(named) - 5} more" * (len(named) > 5)
    return ConversionError(
        f"'{name}' cannot be converted: {'; '.join(named[:5])}{more}. {'. '.join(remedies[:3])}"
    )


def _check_outputs(model: tf.keras.Model, file: LceFile) -> None:
    """Raises ConversionError where outputs are the same numbers, of which the converter makes one tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in zip(model.output_names, file.outputs, strict=True):
        names.setdefault(tensor.index, []).append(name)
    if same := next((alike for alike in names.values() if len(alike) > 1), None):
        raise ConversionError(
            f"the outputs {' and '.join(map(repr, same))} of '{model.name}' are the same numbers in "
            "inference, and a file cannot give them twice; leave out all but one of them"
        )


def _check_binary(expected: list[str], file: LceFile) -> None:
    actual = [operator for operator in file.operators if operator.name == BINARY_CONVOLUTION]
    missing = len(expected) - len(actual)
    if missing > 0:
        float_ = [name for name in expected if not any(_belongs_to(one, name) for one in actual)]
        names = [f"'{name}'" for name in float_ or expected]  # a layer that is used twice has a name once
        raise ConversionError(
            f"{missing} of {len(expected)} binary convolutions stayed float in LCE: {some(names)}. LCE needs "
            "a QuantConv2D, inputs of -1 and +1 from Larq's sign (or tf.where(x >= 0, 1., -1.)), and kernels "
            "of +s or -s with s > 0 in every filter"
        )


def _belongs_to(operator: Operator, layer: str) -> bool:
    # Outputs have the name of what was fused last; the input is the sign that the layer itself took.
    return any(f"/{layer}/" in f"/{source}/" for source in operator.inputs[0].name.split(";"))


# Raw pixels -------------------------------------------------------------------------------------------


def take_pixels(graph: Graph, normalization: Normalization) -> None:
    """Makes a graph take raw pixels (0 to 255) instead of normalised images.

    `(u / 255 - m) / s = (u - 255 m) / (255 s)`: the factor goes into the kernel of a convolution that reads
    the input, and the constant into its bias. Where the convolution pads with zeros, which stand for pixels
    of the mean, the subtraction of `255 m` stays a layer before it. Other readers get a map per channel.
    """
    scale, offset = 1 / (255 * np.asarray(normalization.std)), -255 * np.asarray(normalization.mean)
    for tensor in graph.inputs:
        readers = graph.consumers(tensor)
        layer = readers[0].layer if len(readers) == 1 and readers[0].inputs == [tensor] else None
        takes = layer is not None and facts.is_convolution(layer) and facts.is_linear(layer)
        if layer is None or not takes or graph.is_shared(layer):
            name = unique_name(graph, "normalization")
            graph.insert_after(tensor, layer_of(name, Affine(scale, offset * scale)))
            continue
        scale_inputs(layer, scale)
        if not facts.pads(layer):
            add_bias(layer, shifted(layer, offset))
        elif offset.any():
            graph.insert_after(tensor, shift(unique_name(graph, "pixel_mean"), offset))


# Comparison -------------------------------------------------------------------------------------------


def _examples(
    model: tf.keras.Model, images: Arrays | None, normalization: Normalization | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The same examples as Keras takes them and as the file does."""
    if images is None:
        rng = np.random.default_rng(0)
        shapes = [(_DEFAULT_IMAGES, *tensor.shape[1:]) for tensor in model.inputs]
        arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    else:
        arrays = _as_list(images)
    if len(arrays) != len(model.inputs):
        raise ConversionError(f"the model has {len(model.inputs)} inputs; pass an array of images for each")
    if not all(map(len, arrays)):
        raise ConversionError("there are no images to compare the converted model with Keras on")
    if normalization is None:
        return arrays, arrays
    pixels = [normalization.from_images(one) for one in arrays]
    return [normalization.apply(one) for one in pixels], pixels


def _compared(
    report: ConversionReport,
    model: tf.keras.Model,
    graph: Graph,
    file: LceFile,
    inputs: list[np.ndarray],
    taken: list[np.ndarray],
    outputs: list[np.ndarray],
) -> ConversionReport:
    """The report with what the comparison tells; where the logits look wrong, the layers decide.

    The file gives `outputs` for examples `taken`, which Keras takes as `inputs`.
    """
    expected = outputs_of(model, inputs)
    original = read_frozen(model)
    take_signs_in_layers(original)
    if report.int8 is not None:
        agreement = min(proof.compare(*pair).agreement for pair in zip(expected, outputs, strict=True))
        report = dataclasses.replace(report, int8=dataclasses.replace(report.int8, float_agreement=agreement))
        original, inputs = graph, [np.asarray(one, np.float32) for one in taken]
        expected = outputs_of(graph, inputs)
    names = model.output_names if len(outputs) > 1 else [""]
    evidence = proof.prove(original, graph, file, inputs, taken)
    comparisons = [
        dataclasses.replace(proof.compare(keras, lite, name), layers=evidence.layers)
        for keras, lite, name in zip(expected, outputs, names, strict=True)
    ]
    bad = next((one for one in comparisons if not one.agrees), None)
    if bad is not None and evidence.divergence is not None:
        raise Disagreement(
            f"the converted model disagrees with {report.reference}: {bad.problem}; {evidence.divergence}",
            bad,
        )
    alike = evidence.divergence is None
    comparisons = [dataclasses.replace(one, layers_agree=alike) for one in comparisons]
    worst = min(comparisons, key=lambda one: one.agreement)
    return dataclasses.replace(report, parity=worst, outputs_parity=tuple(comparisons))


def _check_agreement(report: ConversionReport, model: tf.keras.Model, inputs: list[np.ndarray]) -> None:
    """Raises Disagreement where too few images are classified alike, with the reasons."""
    worst, reasons = report.parity, []
    if worst is None or worst.agreement >= LEAST_AGREEMENT:
        return
    norms = _unsettled_norms(model, inputs)
    if norms:
        reasons.append(
            f"the statistics of the BatchNormalization layers {some(norms, 3)} are not those of these "
            "images; train longer, or with a lower momentum of these layers, until they have settled"
        )
    ties = worst.disagreements - worst.clear_disagreements
    if ties:
        reasons.append(
            f"{ties} of the {worst.disagreements} disagreements are ties, where the network itself hardly "
            "prefers one class"
        )
    reasons.append("each layer by itself agrees, but the network amplifies the differences of rounding")
    what = f"Output '{worst.output}' of the" if worst.output else "The"
    raise Disagreement(
        f"{what} converted model classifies only {worst.agreement:.1%} of the images as {report.reference} "
        f"does, less than {LEAST_AGREEMENT:.0%}: {'; '.join(reasons)}. Nothing was written",
        worst,
        "allow_disagreement=True writes the file all the same",
    )


def _unsettled_norms(model: tf.keras.Model, inputs: list[np.ndarray]) -> list[str]:
    """The BatchNormalization layers whose moving statistics are far from those of the images."""
    graph = read_frozen(model)
    calls = [call for call in graph.calls if facts.is_batch_norm(call.layer)]
    if not calls:
        return []
    seen = dataclasses.replace(graph, outputs=[call.inputs[0] for call in calls])
    unsettled = []
    for call, values in zip(calls, outputs_of(seen, inputs), strict=True):
        axes = tuple(range(values.ndim - 1))
        weights, epsilon = call.layer.weights, call.layer.config["epsilon"]
        moving = np.maximum(weights["moving_variance"], epsilon)
        ratio = np.maximum(values.var(axis=axes), epsilon) / moving
        distance = np.abs(values.mean(axis=axes) - weights["moving_mean"]) / np.sqrt(moving)
        if np.mean((distance > 1) | (ratio > 4) | (ratio < 0.25)) > _UNSETTLED:
            unsettled.append(call.layer.name)
    return unsettled
