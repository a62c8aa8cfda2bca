"""Networks with 8-bit parts: fake quantization put into a graph before conversion.

Binary convolutions leave the input, the first convolution and the classifier as the places where
multiplications cost. Form `mixed` makes these int8 and leaves the trunk in float, `full` makes
everything int8 that is not binary. On ARM `mixed` is the faster of the two.
"""

import dataclasses

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import calibration, int8_sites
from bnn_tf.deploy.calibration import Range
from bnn_tf.deploy.fake_quant import FakeQuant, FakeQuantConv2D, FakeQuantDense
from bnn_tf.deploy.finetuning import Finetune, finetune_graph
from bnn_tf.deploy.fold import affine_of, split_activation
from bnn_tf.deploy.graph import Call, ConversionError, Graph, Spec, Tensor, unique_name
from bnn_tf.deploy.int8_sites import Sites
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.errors import unknown
from bnn_tf.layers import OutputScale

FORMS = ("mixed", "full")
"""`mixed`: input, first convolution and classifier; `full`: everything that is not binary."""
_NAMED = 5  # layers named in a message
_GUARD = 2.0
_PROBABILITIES = Range(0.0, 255 / 256)  # the only range that TFLite's int8 operators for them have


@dataclasses.dataclass(frozen=True)
class Int8:
    """How a model is to be converted with 8-bit parts.

    Args:
        form: One of `FORMS`.
        calibration: How ranges are taken from the values, one of `calibration.METHODS`.
        int8_input: Whether the file takes int8 images, instead of quantizing float32 ones itself.
        int8_output: Whether it returns int8 logits.
        finetune: Training after the ranges are known, `bnn_tf.deploy.Finetune`; none by default.

    Raises:
        UsageError: There is no such form or way to calibrate.
    """

    form: str = "mixed"
    calibration: str = "minmax"
    int8_input: bool = False
    int8_output: bool = False
    finetune: Finetune | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form of int8", self.form, FORMS)
        calibration.check_method(self.calibration)


@dataclasses.dataclass(frozen=True)
class Int8Report:
    """The 8-bit parts of a file.

    Attributes:
        form: One of `FORMS`.
        calibration: How ranges were taken.
        calibration_images: On how many images.
        layers: The layers with int8 kernels.
        input_type: Element type of the file's input, as it stands in the file.
        output_type: Element type of the output.
        float_agreement: Share of images with the same top-1 class as the model before quantization;
            None where it was not asked for.
    """

    form: str
    calibration: str
    calibration_images: int
    layers: list[str]
    input_type: str
    output_type: str
    float_agreement: float | None = None

    def __str__(self) -> str:
        agreement = "not checked" if self.float_agreement is None else f"{self.float_agreement:.2%}"
        return (
            f"int8: {self.form}, {len(self.layers)} layers with int8 kernels, ranges ({self.calibration}) "
            f"from {self.calibration_images} images, {self.input_type} input, {self.output_type} output\n"
            f"agreement with the model before quantization: {agreement}"
        )


def quantize_graph(graph: Graph, images: np.ndarray, settings: Int8) -> list[str]:
    """Puts fake quantization into a folded graph; returns the names of the layers with int8 kernels.

    Batch normalisation behind real-valued convolutions is folded into their kernels first. Kernels get
    ranges symmetric around 0 (convolutions one per output channel), activations one range each. From here
    on the folded network is the one that the file is compared with, not what its layers read before.

    Args:
        graph: A graph that `fold_graph` has folded; it is changed.
        images: Preprocessed images on which the activations' ranges are measured.
        settings: Form, and way to calibrate.

    Raises:
        ConversionError: Form `full`, and a binary convolution pads with zeros; or there are no images, or
            no layer that could be int8.
    """
    if images.shape[1:] != tuple(graph.inputs[0].shape[1:]):
        expected = graph.inputs[0].shape[1:]
        raise ConversionError(f"Calibration takes images of shape {expected}, but was given {images.shape}.")
    if not len(images):
        raise ConversionError("There are no images to measure the ranges of the activations on.")
    if settings.form == "full":
        _check_padding(graph)
    for call in graph.calls:
        call.restores = []
    for call in list(graph.calls):
        if int8_sites.is_real(graph, call):
            split_activation(graph, call)
            _fold_into_kernel(graph, call)
    sites = int8_sites.full(graph) if settings.form == "full" else int8_sites.mixed(graph)
    if not sites.tensors:
        raise ConversionError(f"'{graph.name}' has no convolution or dense layer that could be int8.")
    ranges = calibration.ranges(graph, sites.tensors, images, settings.calibration)
    ranges |= dict.fromkeys(sites.probabilities, _PROBABILITIES)
    for call in sites.layers:
        call.layer = _with_int8_kernel(call.layer)
    _insert(graph, sites, ranges)
    if settings.finetune is not None:
        finetune_graph(graph, settings.finetune)
    for call in sites.layers:
        _round_bias(graph, call)
    return [call.layer.name for call in sites.layers]


def report_of(settings: Int8, images: int, layers: list[str], interpreter: Interpreter) -> Int8Report:
    """What became int8, with the types of input and output as they stand in the file.

    Raises:
        ConversionError: The input or output is not of the type that was asked for.
    """
    for what, wanted, found in (
        ("input", settings.int8_input, interpreter.input_type),
        ("output", settings.int8_output, interpreter.output_type),
    ):
        if wanted and found != np.int8:
            raise ConversionError(
                f"The {what} of the file stayed {found}, because the layer there cannot be int8; "
                f"convert without an int8 {what}, or put a real convolution first and a dense layer last."
            )
    return Int8Report(
        form=settings.form,
        calibration=settings.calibration,
        calibration_images=images,
        layers=layers,
        input_type=str(interpreter.input_type),
        output_type=str(interpreter.output_type),
    )


def _check_padding(graph: Graph) -> None:
    names = [f"'{name}'" for name in int8_sites.without_one_padding(graph)]
    if names:
        more = [f"and {len(names) - _NAMED} more"] * (len(names) > _NAMED)
        raise ConversionError(
            f"A full int8 model needs binary convolutions that pad with ones, but {len(names)} pad with "
            f"zeros: {', '.join(names[:_NAMED] + more)}. Train with one-padding (--set model.pad_values=1), "
            "or convert with --int8 mixed."
        )


def _fold_into_kernel(graph: Graph, call: Call) -> None:
    """Makes the affine maps directly behind a real-valued layer part of its kernel and bias."""
    layer = call.layer
    while (reader := graph.sole_consumer(call.outputs[0])) and (affine := affine_of(reader)):
        kernel, bias = layer.weights["kernel"], layer.weights.get("bias", np.float32(0))
        layer.weights["kernel"] = (kernel * affine.scale).astype(np.float32)
        layer.weights["bias"] = (bias * affine.scale + affine.bias).astype(np.float32)
        layer.config["use_bias"] = True
        graph.remove(reader)


def _with_int8_kernel(layer: Spec) -> Spec:
    dense = issubclass(layer.kind, tf.keras.layers.Dense)
    kind = FakeQuantDense if dense else FakeQuantConv2D
    plain = tf.keras.layers.Dense(1) if dense else tf.keras.layers.Conv2D(1, 1)
    weights = {**layer.weights, "kernel_range": np.asarray(kind.range_of(layer.weights["kernel"]))}
    return Spec(kind, {key: layer.config[key] for key in plain.get_config()}, weights)


def _insert(graph: Graph, sites: Sites, ranges: dict[Tensor, Range]) -> None:
    """Puts the rounding behind its tensors, and scales between a pool and a classifier."""
    ranges = ranges | {pooled: ranges[source] for pooled, source in sites.averages.items()}
    for pooled, call in sites.guarded:
        found = ranges[call.inputs[0]]
        ranges[call.inputs[0]] = Range(_GUARD * found.minimum, _GUARD * found.maximum)
        call.layer.weights["kernel"] = call.layer.weights["kernel"] / np.float32(_GUARD)
        call.layer.weights["kernel_range"] = call.layer.weights["kernel_range"] / np.float32(_GUARD)
        graph.insert_after(pooled, _guard(unique_name(graph, "pool_scale"), pooled.shape[-1] or 1))
    names = {tensor: call.layer.name for call in graph.calls for tensor in call.outputs}
    for tensor, found in ranges.items():
        config = {"name": unique_name(graph, f"{names[tensor]}_int8"), **dataclasses.asdict(found)}
        graph.insert_after(tensor, Spec(FakeQuant, config | {"dtype": "float32"}))


def _round_bias(graph: Graph, call: Call) -> None:
    """Makes the bias a multiple of the steps of input and kernel, as the file's int32 bias is one."""
    weights = call.layer.weights
    source = graph.producer(int8_sites.source(graph, call.inputs[0]))
    if "bias" in weights and source.layer.kind is FakeQuant:
        own = source.layer.build().step * weights["kernel_range"].astype(np.float64) / 127
        weights["bias"] = (np.round(weights["bias"] / own) * own).astype(np.float32)


def _guard(name: str, channels: int) -> Spec:
    """A multiplication, which keeps the converter from rounding the whole map with the range of its mean.

    The converter carries a range backwards through pools, and the values of a map exceed those of its mean.
    A power of two changes no digit.
    """
    config = {"name": name, "dtype": "float32"}
    return Spec(OutputScale, config, {"scale": np.full(channels, _GUARD, np.float32)})
