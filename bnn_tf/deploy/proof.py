"""Does a converted file compute the same as the Keras model?

Both round differently, in the last bits. Where an activation lies so near to zero that rounding decides
its sign, the sign may flip, and one flip spreads: the logits of that image move visibly although nothing
is wrong. An error of the conversion moves the logits of *every* image. So `compare` judges how many images
moved, not how far one of them did. Without errors, 1 % of the images moved in a trained CIFAR ResNet-20, but
up to half of them in an untrained Bi-Real-18 at 224x224, which has ten times as many activations.

Where too many moved, `prove` decides layer by layer: the signs that the file itself passes on go into the
Keras layers behind them, up to the next signs. With the same signs before, both compute the same up to
rounding: signs differ only where the value is next to zero, anything else is an error. That settles what the
logits cannot, and shows where a wrong conversion first goes wrong. A binary search over truncated models
would need `log n` conversions, each of them fused otherwise than the file, and would miss the errors of
fusion. Here the file itself runs, once, with its bit-packed tensors (32 channels to an element, bit 1 for -1)
as additional outputs: nothing is converted again, so every fusion stays as it is on the device.

Integer arithmetic may round a value to the neighbouring level of an 8-bit tensor, and what is computed of it
may then be off by more than one level, because a kernel adds up its inputs. So the levels in the file go into
the layers behind them, just as signs do. From the same levels before, the next ones are off by one level at
most, whatever the kernel is.

A BatchNorm whose channel hardly varies (behind a ReLU that is nearly always 0) multiplies by up to
`1 / sqrt(epsilon)`, and rounding with it: LCE adds `K` times that factor to the bias of a binary convolution
of `K` inputs, which takes digits from every value of the channel. Each value may therefore be off by the last
digit of the largest sum that its channel can have, times what it is multiplied with (`_lost_digits`).
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts, interpreter
from bnn_tf.deploy.fold import affine_of
from bnn_tf.deploy.graph import Call, ConversionError, Graph, Spec, Tensor
from bnn_tf.deploy.int8 import FakeQuant
from bnn_tf.deploy.lce_file import BINARY_CONVOLUTION, LceFile, Operator, TensorInfo
from bnn_tf.errors import AdvisingError
from bnn_tf.values import InNotebooks

MOVED = 1e-3
"""An image has moved if one of its logits differs by more than this times the deviation of all logits."""
MOVED_LIMIT = 0.25
"""Largest share of moved images that is put down to rounding. The median image has then not moved."""
NEAR_TIE = 0.1
"""Two logits of an image closer than this times the deviation of all logits are a near tie."""
DISAGREEMENT_LIMIT = 0.01
"""Largest share of images whose top-1 class differs without a near tie."""
TOLERANCE = 1e-3
"""Largest difference of a value, in units of the deviation of the layer's values, that is rounding."""
OUTLIERS = 1e-3
"""Largest share of values beyond the tolerance."""
LAST_DIGIT = 2.0**-22
"""How far, of the largest sum of a channel, float32 may round the sum, its factor and its bias in all."""
WRONG_SIGNS = 1e-4
"""Largest share of signs that differ although the value is further from zero than the tolerance."""
_IMAGES = 8
_QUANTIZE, _POOL, _FILL = "LceQuantize", "LceBMaxPool2d", "FILL"


@dataclasses.dataclass(frozen=True)
class LayerSigns:
    """Signs that a layer takes, in Keras and in the file, both computed from the same signs before.

    Attributes:
        layer: Name of the layer.
        signs: Number of signs compared.
        flipped: How many differ.
        wrong: How many of these belong to values further from zero than rounding reaches.
        largest: Largest value of Keras, in magnitude, whose sign differs.
    """

    layer: str
    signs: int
    flipped: int
    wrong: int
    largest: float

    def __str__(self) -> str:
        wrong = f", {self.wrong:,} not near zero (up to {self.largest:.2g})" if self.wrong else ""
        return f"{self.layer}: {self.flipped:,} of {self.signs:,} signs flipped{wrong}"


@dataclasses.dataclass(frozen=True)
class ParityReport(InNotebooks):
    """Comparison of the logits of the same images.

    Outputs of several positions (a segmentation map, boxes) are compared position by position, over the last
    axis. An output of one value has two classes: probabilities are compared with 0.5, other values with 0.

    Attributes:
        images: Number of images compared.
        agreement: Share of images (of positions) with the same top-1 class.
        disagreements: Number of images (positions) with another top-1 class.
        largest_margin: Over the disagreements, the largest lead of Keras' class in Keras' logits.
        clear_disagreements: The disagreements that are no near tie (`NEAR_TIE`).
        moved_share: Share of images that moved (`MOVED`).
        median_difference: Median over the images of the largest difference of a logit.
        max_difference: Largest difference of a logit.
        deviation: Standard deviation of all logits of Keras, the unit of the limits.
        layers_agree: Whether every layer by itself computes the same (`prove`), which decides where the
            logits do not settle it; None where the layers were not compared.
        layers: Flipped signs of each layer that takes some, in the order of the network.
        positions: Classes that are compared for each image.
        output: Name of the output, where the model has several.
    """

    images: int
    agreement: float
    disagreements: int
    largest_margin: float
    clear_disagreements: int
    moved_share: float
    median_difference: float
    max_difference: float
    deviation: float
    layers_agree: bool | None = None
    layers: tuple[LayerSigns, ...] = ()
    positions: int = 1
    output: str = ""

    @property
    def problem(self) -> str | None:
        """Why the models disagree, as part of a sentence; None where they agree."""
        return None if self.layers_agree else self._unsettled

    @property
    def _unsettled(self) -> str | None:
        """What the logits alone say against it."""
        if not math.isfinite(self.max_difference):
            return "one of them gives values that are not finite"
        if self.moved_share > MOVED_LIMIT:
            return (
                f"the logits of {self.moved_share:.0%} of the images differ "
                f"(median difference {self.median_difference:.2g}, logits deviate by {self.deviation:.2g})"
            )
        if self.clear_disagreements > DISAGREEMENT_LIMIT * self.images * self.positions:
            return (
                f"{self.clear_disagreements} of {self.images * self.positions} "
                f"{'images' if self.positions == 1 else 'positions'} are classified otherwise "
                f"although their logits are no near tie (largest lead {self.largest_margin:.2g})"
            )
        return None

    @property
    def agrees(self) -> bool:
        """Whether the differences are explained by rounding; the limits stand at the top of this module."""
        return self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {**dataclasses.asdict(self), "agrees": self.agrees}

    def table(self) -> str:
        """Flipped signs, a line per layer."""
        return "\n".join(f"  {layer}" for layer in self.layers)

    def __str__(self) -> str:
        images = f"{self.images} image{'s' * (self.images != 1)}"
        what = images if self.positions == 1 else f"{self.images}×{self.positions} positions"
        return (
            f"{self.agreement:.2%} of {what} classified alike, {self.moved_share:.1%} moved, "
            f"logit difference median {self.median_difference:.2g}, largest {self.max_difference:.2g}"
            + (
                " (rounding, amplified by the network: each layer by itself agrees)"
                if self.layers_agree and self._unsettled
                else ""
            )
        )


class Disagreement(AdvisingError, ConversionError):
    """The converted model computes something else; nothing was written.

    Attributes:
        report: The comparison, with the flipped signs of each layer.
    """

    def __init__(self, reason: str, report: ParityReport, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.report = report


def compare(keras_logits: np.ndarray, lite_logits: np.ndarray, output: str = "") -> ParityReport:
    """Compares an output of the Keras model and of the converted one for the same images.

    Args:
        keras_logits: `(n, classes)`, or `(n, …, classes)` with several positions for each image.
        lite_logits: The same from the interpreter.
        output: The output's name, where the model has several.

    Raises:
        ValueError: The shapes differ, or there are no images.

    Example:
        >>> compare(np.float32([[1, 2], [3, 0]]), np.float32([[1, 2], [0, 3]])).agreement
        0.5
    """
    if keras_logits.shape != lite_logits.shape or not len(keras_logits):
        raise ValueError(
            f"expected two equal, non-empty shapes, got {keras_logits.shape} and {lite_logits.shape}"
        )
    images = len(keras_logits)
    keras = np.asarray(keras_logits, np.float64).reshape(images, -1)
    lite = np.asarray(lite_logits, np.float64).reshape(images, -1)
    classes = keras_logits.shape[-1] if keras_logits.ndim > 1 else 1
    positions = keras.shape[1] // classes
    if not (np.isfinite(keras).all() and np.isfinite(lite).all()):
        return ParityReport(
            images, 0.0, images * positions, math.nan, images * positions, 1.0, math.nan, math.nan, math.nan,
            positions=positions, output=output,
        )  # fmt: skip
    unit = deviation(keras)
    difference = np.abs(keras - lite).max(axis=1)
    expected, actual = keras.reshape(-1, classes), lite.reshape(-1, classes)
    if classes == 1:
        expected, actual = _two_classes(expected, actual)
    margin = expected.max(axis=1) - np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
    differs = expected.argmax(axis=1) != actual.argmax(axis=1)
    return ParityReport(
        images=images,
        agreement=float(1 - differs.mean()),
        disagreements=int(differs.sum()),
        largest_margin=float(margin[differs].max(initial=0.0)),
        clear_disagreements=int((margin[differs] > NEAR_TIE * unit).sum()),
        moved_share=float((difference > MOVED * unit).mean()),
        median_difference=float(np.median(difference)),
        max_difference=float(difference.max()),
        deviation=unit,
        positions=positions,
        output=output,
    )


def _two_classes(keras: np.ndarray, lite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One value as the logits of two classes: how far it is on either side of the threshold."""
    threshold = 0.5 if keras.min() >= 0 and keras.max() <= 1 else 0.0
    first, second = (np.concatenate([0 * one, one - threshold], axis=1) for one in (keras, lite))
    return first, second


def deviation(values: np.ndarray) -> float:
    """The unit in which differences are judged: the standard deviation of all values."""
    # Values that are all alike (a single unit, an untrained classifier of zeros) have no deviation
    # of their own, and rounding still must not count as movement.
    return max(float(values.std()), 1e-3 * float(np.abs(values).max(initial=0.0)), 1e-6)


# Layer by layer ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first place where the converted network computes something else.

    Attributes:
        place: The input of a layer, or the output of the network.
        share: Share of the values (or of the signs, where the file has no more) that differ by more than
            rounding.
        difference: Largest difference of a value; of signs, the largest value that has the wrong one.
        sources: The convolutions and dense layers that compute it, but nothing that agreed.
    """

    place: str
    share: float
    difference: float
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        values = f"{self.share:.2%} of its values, by up to {self.difference:.2g}"
        names = ", ".join(f"'{name}'" for name in self.sources)
        return f"{self.place} is the first to differ ({values})" + (f", computed by {names}" if names else "")


@dataclasses.dataclass(frozen=True)
class Proof(InNotebooks):
    """What the layers say.

    Attributes:
        layers: The signs of each layer that takes some and was recognised in the file, in order.
        divergence: Where the file first computes something else than Keras; None if nowhere.
    """

    layers: tuple[LayerSigns, ...]
    divergence: Divergence | None

    def __str__(self) -> str:
        verdict = self.divergence or "the file computes what Keras computes"
        return "\n".join([f"{len(self.layers)} layers compared", *map(str, self.layers), str(verdict)])


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network takes signs, as far as it helps to recognise the place in a file.

    Attributes:
        layer: Name of the layer that takes them.
        shape: Shape of its input, `(batch, …, channels)`.
        kernel: Kernel of the binary convolution that reads the signs first, `(kh, kw, cin, cout)`, if any.
    """

    layer: str
    shape: tuple[int | None, ...]
    kernel: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Levels:
    """Where a network rounds to 8 bits, as far as it helps to recognise the tensor in a file.

    Attributes:
        layer: Name of the layer that rounds.
        shape: Shape of the tensor, `(batch, …)`.
        step: Distance of two levels.
        zero: The level of 0.
    """

    layer: str
    shape: tuple[int | None, ...]
    step: float
    zero: int


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a file has at such a place.

    Attributes:
        signs: -1 and +1, float32, shaped as the layer's input.
        values: What the signs were taken of, float32, if it is in the file; bit-packed outputs of binary
            convolutions are made without.
    """

    signs: np.ndarray
    values: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A tensor of the original graph that is compared, and what the file has for it.

    Attributes:
        place: What messages call it.
        tensor: The tensor: one whose signs are taken, one that is rounded to 8 bits, or an output.
        taken: What the file has.
        layer: Name of the layer that takes the signs; empty for other tensors.
    """

    place: str
    tensor: Tensor
    taken: Taken
    layer: str = ""


@dataclasses.dataclass(frozen=True)
class _Known:
    """A tensor as Keras computes it from what the file had at the last cuts, and how far the file may be off.

    Integer arithmetic may round each int8 tensor to the neighbouring level, pools with ties often do. So
    single values may be off by all steps together, but not the average one by more than the largest. Between
    two cuts there is more than one such tensor only where one was not recognised in the file.

    Attributes:
        value: Its value.
        lost: How far rounding to float32 may move it; per channel, or one for all.
        largest_step: The largest step of the int8 tensors behind the last cuts; 0 without.
        steps: All of their steps together.
        sources: The layers with kernels behind the last cuts that compute it.
    """

    value: Any
    lost: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(()))
    largest_step: float = 0.0
    steps: float = 0.0
    sources: tuple[str, ...] = ()


def prove(
    original: Graph,
    deployed: Graph,
    file: LceFile,
    inputs: Sequence[np.ndarray],
    file_inputs: Sequence[np.ndarray] | None = None,
) -> Proof:
    """Compares a file with Keras layer by layer.

    Args:
        original: The graph of the model as trained.
        deployed: The graph that was converted: the same after folding.
        file: The converted model.
        inputs: Preprocessed images for each input of the model; the first eight are used.
        file_inputs: The same as the file takes them, where it takes raw pixels.
    """
    taken = [array[:_IMAGES] for array in (inputs if file_inputs is None else file_inputs)]
    inputs = [array[:_IMAGES] for array in inputs]
    cuts, outputs = _cuts(original, deployed, file, taken)
    divergence = None
    compared: set[str] = set()
    layers = []
    for cut, known in _walk(original, cuts, outputs, inputs):
        expected = np.asarray(known.value)
        rounding = TOLERANCE * deviation(expected)
        single = known.lost + known.steps + rounding
        difference = _difference(cut, expected, single, known.lost + known.largest_step + rounding)
        if divergence is None and difference is not None:
            sources = tuple(name for name in known.sources if name not in compared)
            divergence = dataclasses.replace(difference, sources=sources)
        compared.update(known.sources)
        if cut.layer:
            layers.append(_layer_signs(cut, expected, single))
    return Proof(tuple(layers), divergence)


def _walk(
    graph: Graph, cuts: dict[Tensor, _Cut], outputs: list[np.ndarray], inputs: Sequence[np.ndarray]
) -> Iterator[tuple[_Cut, _Known]]:
    """Computes the graph; behind each cut, with what the file has there. The outputs come last."""
    known = {
        tensor: _Known(tf.constant(array, tf.float32))
        for tensor, array in zip(graph.inputs, inputs, strict=True)
    }
    ends = dict(known)
    last_use = {tensor: call for call in graph.calls for tensor in call.inputs}
    layers: dict[Spec, tf.keras.layers.Layer] = {}
    for call in graph.calls:
        if not call.inputs:
            continue
        before = [known[tensor] for tensor in call.inputs]
        results = call.compute([one.value for one in before], layers)
        for tensor, value in zip(call.outputs, results, strict=True):
            known[tensor] = ends[tensor] = _known(call, before, value)
            if tensor in cuts:
                yield cuts[tensor], known[tensor]
                taken = cuts[tensor].taken
                seen = taken.signs if taken.values is None else taken.values
                known[tensor] = _Known(tf.constant(seen, tf.float32))
            if tensor not in graph.outputs:
                del ends[tensor]
        for tensor in {tensor for tensor in call.inputs if last_use[tensor] is call}:
            del known[tensor]
    for number, (tensor, logits) in enumerate(zip(graph.outputs, outputs, strict=True)):
        place = "the output" if len(outputs) == 1 else f"output {number}"
        yield _Cut(place, tensor, Taken(logits, logits)), ends[tensor]


def _known(call: Call, before: list[_Known], value: Any) -> _Known:
    """The output of a call, for which `before` was known of its inputs."""
    config = call.layer.config
    step = (config["maximum"] - config["minimum"]) / 255 if call.layer.kind is FakeQuant else 0.0
    multiplies = _sums_up(call) and not facts.takes_signs(call.layer)
    largest = float(np.abs(before[0].value).max()) if multiplies else 1.0
    own = (call.layer.name,) if any(name.endswith("kernel") for name in call.layer.weights) else ()
    return _Known(
        value,
        lost_digits(call, [one.lost for one in before], largest),
        max([step, *(one.largest_step for one in before)]),
        step + sum(one.steps for one in before),
        tuple(dict.fromkeys([*(name for one in before for name in one.sources), *own])),
    )


def _difference(cut: _Cut, expected: np.ndarray, single: np.ndarray, mean: np.ndarray) -> Divergence | None:
    """What differs by more than `single` values and their `mean` may, with one limit or one per channel."""
    if cut.taken.values is None:
        wrong = _flipped(cut, expected) & ~(np.abs(expected) <= single)
        share = float(np.mean(wrong))
        if share <= WRONG_SIGNS:
            return None
        return Divergence(cut.place, share, float(np.abs(expected[wrong]).max()))
    difference = np.abs(cut.taken.values - expected)
    share = float(np.mean(~(difference <= single)))
    if share <= OUTLIERS and difference.mean() <= np.mean(mean):
        return None
    return Divergence(cut.place, share, float(difference.max()))


def _layer_signs(cut: _Cut, expected: np.ndarray, single: np.ndarray) -> LayerSigns:
    flipped = _flipped(cut, expected)
    near = np.abs(expected) <= single
    largest = float(np.abs(expected[flipped]).max(initial=0.0))
    return LayerSigns(cut.layer, flipped.size, int(flipped.sum()), int((flipped & ~near).sum()), largest)


def _flipped(cut: _Cut, expected: np.ndarray) -> np.ndarray:
    return (cut.taken.signs >= 0) != (expected >= 0)


def _cuts(
    original: Graph, deployed: Graph, file: LceFile, inputs: Sequence[np.ndarray]
) -> tuple[dict[Tensor, _Cut], list[np.ndarray]]:
    """What the file has for the tensors of `original` whose signs are taken or that are rounded.

    Also returns the file's outputs.
    """
    calls = _cut_calls(deployed)
    seen, outputs = look(file, [_place(deployed, call) for call in calls.values()], inputs)
    taken = {
        key: _restored(call, one)
        for (key, call), one in zip(calls.items(), seen, strict=True)
        if one is not None
    }
    cuts: dict[Tensor, _Cut] = {}
    for key, call in _cut_calls(original).items():
        if key not in taken:
            continue
        if call.layer.kind is FakeQuant:
            maker = original.producer(call.inputs[0]).layer.name
            cut = _Cut(f"the 8-bit output of '{maker}'", call.outputs[0], taken[key])
        else:
            name = call.layer.name
            cut = _Cut(f"the input of '{name}'", call.inputs[0], taken[key], name)
        cuts.setdefault(cut.tensor, cut)
    return cuts, outputs


def _cut_calls(graph: Graph) -> dict[tuple[str, int], Call]:
    """The calls that take signs of what the network computes, then those that round to 8 bits.

    By layer and number of the use.
    """
    signs = [
        call for call in graph.calls if facts.takes_signs(call.layer) and call.inputs[0] not in graph.inputs
    ]
    uses: collections.Counter[str] = collections.Counter()
    calls: dict[tuple[str, int], Call] = {}
    for call in [*signs, *(call for call in graph.calls if call.layer.kind is FakeQuant)]:
        calls[call.layer.name, uses[call.layer.name]] = call
        uses[call.layer.name] += 1
    return calls


def _place(graph: Graph, call: Call) -> Place | Levels:
    if call.layer.kind is FakeQuant:
        layer = call.layer.build()
        zero = -128 - round(layer.minimum / layer.step)
        return Levels(layer.name, call.outputs[0].shape, layer.step, zero)
    return Place(call.layer.name, call.inputs[0].shape, _kernel_behind(graph, call))


def _restored(call: Call, taken: Taken) -> Taken:
    """What the layer read before folding, as far as the file has it."""
    signs, values = taken.signs, taken.values
    for restore in call.restores:
        signs = np.where(restore(signs) >= 0, np.float32(1), np.float32(-1))
        values = None if values is None else restore(values)
    return Taken(signs, values)


def _kernel_behind(graph: Graph, call: Call) -> np.ndarray | None:
    """The kernel of the convolution that takes the signs itself, or else reads them first."""
    if issubclass(call.layer.kind, lq.layers.QuantConv2D):
        return call.layer.weights["kernel"]
    if "kernel" in call.layer.weights:
        return None
    kernels = (_kernel_behind(graph, reader) for reader in graph.consumers(call.outputs[0]))
    return next((kernel for kernel in kernels if kernel is not None), None)


def lost_digits(call: Call, before: Sequence[np.ndarray], largest: float) -> np.ndarray:
    """How far rounding to float32 may move what a call gives; per channel, or one for all.

    Args:
        call: The call.
        before: The same for each of its inputs.
        largest: The largest magnitude of its first input.
    """
    known = facts.of(call)
    if _sums_up(call):
        kernel = np.abs(call.layer.weights["kernel"]).astype(np.float64)
        sums = kernel.reshape(-1, kernel.shape[-1]).sum(axis=0)  # the largest ones of inputs of magnitude 1
        return LAST_DIGIT * sums * largest
    if (affine := affine_of(call)) is not None:
        return np.abs(affine.scale) * before[0]
    if len(before) == 1 and (known.channels == "same" or known.clips):
        return before[0]
    if before and facts.is_sum(call.layer):
        return np.asarray(np.sum(np.broadcast_arrays(*before), axis=0))
    if before and known.moves_values:  # in other channels
        return np.asarray(before[0].max())
    return np.zeros(())


def _sums_up(call: Call) -> bool:
    """Whether a layer adds up products with a kernel whose last axis is the channels of its output."""
    kind = call.layer.kind
    return "kernel" in call.layer.weights and (
        issubclass(kind, (tf.keras.layers.Conv1D, tf.keras.layers.Conv2D, *facts.DENSE))
        and not issubclass(kind, tf.keras.layers.Conv2DTranspose)
    )


# Looking into a file ----------------------------------------------------------------------------------


def look(
    file: LceFile, places: Sequence[Place | Levels], inputs: Sequence[np.ndarray]
) -> tuple[list[Taken | None], list[np.ndarray]]:
    """Runs a file; returns what it has at each place (None where it has none), and its outputs."""
    finder = _Finder(file)
    pairs = [finder.find(place) for place in places]
    outputs = [tensor.index for tensor in file.outputs]
    wanted = [tensor for pair in pairs if pair for tensor in pair if tensor is not None]
    extra = list(dict.fromkeys(tensor for tensor in wanted if tensor not in outputs))
    results = interpreter.run(file, inputs, extra)
    values = dict(zip([*outputs, *extra], results, strict=True))
    taken = [
        None if pair is None else _taken(file, place, pair, values)
        for place, pair in zip(places, pairs, strict=True)
    ]
    return taken, [tensor.real(values[tensor.index]) for tensor in file.outputs]


def _taken(
    file: LceFile,
    place: Place | Levels,
    pair: tuple[int | None, int | None],
    values: dict[int, np.ndarray],
) -> Taken:
    signs, source = pair
    before = None if source is None else file.tensors[source].real(values[source])
    if signs is None:
        assert before is not None
        before = before.reshape(-1, *place.shape[1:])
        return Taken(np.where(before >= 0, np.float32(1), np.float32(-1)), before)
    bits = _unpack(values[signs], place.shape[-1])
    return Taken(1 - 2 * bits.astype(np.float32), before)


def _unpack(words: np.ndarray, channels: int | None) -> np.ndarray:
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little")[..., :channels]


def _same_filters(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two kernels `(cout, kh, kw, cin)` agree but for the sign of whole filters.

    LCE turns the filters with negative scales around where the output is bit-packed.
    """
    if one.shape != other.shape:
        return False
    differs = (one != other).reshape(len(other), -1)
    return bool((differs == differs[:, :1]).all())


class _Finder:
    """Recognises places in a file.

    Signs by the kernel that reads them, or else by the layer's name; rounded tensors by their steps.
    """

    def __init__(self, file: LceFile) -> None:
        self._file, self._makers = file, file.makers()
        self._free = self._by_name(BINARY_CONVOLUTION)

    def _by_name(self, name: str) -> list[Operator]:
        return [operator for operator in self._file.operators if operator.name == name]

    def find(self, place: Place | Levels) -> tuple[int | None, int | None] | None:
        """The tensors of the signs, and of what they were taken of or of the rounded values."""
        if isinstance(place, Levels):
            return self._by_step(place)
        signs = self._by_kernel(place)
        signs = self._by_layer(place) if signs is None else signs
        if signs is None:
            return None
        maker = self._makers.get(signs)
        if maker is None or maker.name != _QUANTIZE:
            return signs, None
        return signs, maker.inputs[0].index

    def _by_step(self, place: Levels) -> tuple[None, int] | None:
        """The only 8-bit tensor of this shape with these levels; or of this size, where it is reshaped."""
        fitting = [
            tensor
            for tensor in self._file.tensors
            if tensor.type == "INT8"
            and not tensor.is_constant
            and math.prod(tensor.shape[1:]) == math.prod(filter(None, place.shape[1:]))
            and len(tensor.scales) == 1
            and math.isclose(tensor.scales[0], place.step, rel_tol=1e-6)
            and tensor.zero_points == (place.zero,)
        ]
        fitting = [tensor for tensor in fitting if tensor.shape[1:] == place.shape[1:]] or fitting
        return (None, fitting[0].index) if len(fitting) == 1 else None

    def _by_kernel(self, place: Place) -> int | None:
        if place.kernel is None:
            return None
        bits = np.moveaxis(place.kernel < 0, -1, 0)
        for number, operator in enumerate(self._free):
            if _same_filters(self._bits(operator.inputs[1], bits.shape[-1]), bits):
                del self._free[number]  # a layer that is used twice has two of them
                signs = operator.inputs[0].index
                return signs if self._fits(signs, place) else None
        return None

    def _bits(self, tensor: TensorInfo, channels: int) -> np.ndarray:
        """The signs of a kernel; one whose words are all alike comes from a `FILL` with that word."""
        words, maker = self._file.data(tensor), self._makers.get(tensor.index)
        if words is None and maker is not None and maker.name == _FILL:
            words = self._file.data(maker.inputs[1])
        if words is None:
            return np.empty(0, np.uint8)
        return _unpack(np.broadcast_to(words, tensor.shape), channels)

    def _by_layer(self, place: Place) -> int | None:
        names = (_QUANTIZE, BINARY_CONVOLUTION, _POOL)
        for operator in (op for name in names for op in self._by_name(name)):
            signs = operator.outputs[0]
            named = f"/{place.layer}/" in signs.name
            if signs.type == "INT32" and named and self._fits(signs.index, place):
                return signs.index
        return None

    def _fits(self, signs: int, place: Place) -> bool:
        *sizes, words = self._file.tensors[signs].shape[1:]
        channels = place.shape[-1] or 0
        return sizes == list(place.shape[1:-1]) and words == -(-channels // 32)
