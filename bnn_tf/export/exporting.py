"""`bnn_tf.export_c`: the folded network of a model as one C file, checked against Keras."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.deploy import proof as proofs
from bnn_tf.deploy.graph import ConversionError, Graph, outputs_of
from bnn_tf.deploy.lce_file import LceFile
from bnn_tf.errors import UsageError, UserError
from bnn_tf.export import check as checks
from bnn_tf.export.file_lowering import forced, lower_file, prove_file, reference, run_file
from bnn_tf.export.int8_weights import round_file, store_levels
from bnn_tf.export.lowering import lower
from bnn_tf.export.operations import Convolution, Depthwise, Network, Work
from bnn_tf.export.program import Program, compile_network
from bnn_tf.export.source import Labels, write_source
from bnn_tf.model_files import opened
from bnn_tf.values import InNotebooks

_IMAGES = 16
_PROVED = 4
_LONGEST_SIDE = 2**15 - 512  # regions of maps are 16-bit numbers, borders included
_KEYWORDS = re.compile(
    "auto|break|case|char|class|const|continue|default|delete|do|double|else|enum|extern|float|for|goto|if|"
    "inline|int|long|main|new|register|restrict|return|short|signed|sizeof|static|struct|switch|template|"
    "this|typedef|union|unsigned|void|volatile|while"
)


@dataclasses.dataclass(frozen=True)
class ExportReport(InNotebooks):
    """What was written.

    Attributes:
        path: The C file.
        header: The header beside it, if one was asked for.
        name: The prefix of its functions.
        flash: Bytes of constants: weights, thresholds, tables of the network. The code comes on top.
        ram: Bytes of the arena: all intermediate values, and the image made of raw pixels; with expanded
            filters, these as well.
        ram_per_thread: What each thread beyond the first adds to it, where the file is compiled for several.
        steps: Fused steps.
        binary_convolutions: Convolutions and dense layers that are computed on bits.
        real_convolutions: Convolutions and dense layers that are computed on float values.
        work: The multiplications of an inference.
        int8_kernels: Kernels that are stored as int8, depthwise ones among them.
        parity: Comparison of the outputs with Keras (of a `.tflite` file: with LCE's interpreter); None
            where nothing was compared.
        proof: Comparison layer by layer; None where nothing was compared.
        unchecked: Why nothing was compared; empty where it was.
        reference: What it was compared with, `"Keras"` or `"LCE's interpreter"`; with int8 weights, on
            kernels rounded the same way.
        rounding: What rounding the kernels to int8 does to the outputs: those of the network before and
            after it, compared; None with float weights, and where nothing was asked to be checked.

    Example:
        >>> import tempfile
        >>> model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
        >>> report = bnn_tf.export_c(model, tempfile.mkdtemp() + "/net.c", check=False)
        >>> report.name, report.flash, report.work.real
        ('net', 64, 6)
    """

    path: Path
    header: Path | None
    name: str
    flash: int
    ram: int
    ram_per_thread: int
    steps: int
    binary_convolutions: int
    real_convolutions: int
    work: Work
    parity: proofs.ParityReport | None = None
    proof: checks.LayerProof | None = None
    unchecked: str = ""
    reference: str = "Keras"
    int8_kernels: int = 0
    rounding: proofs.ParityReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            **dataclasses.asdict(self),
            "path": str(self.path),
            "header": str(self.header) if self.header else None,
            "parity": self.parity.to_dict() if self.parity else None,
            "rounding": self.rounding.to_dict() if self.rounding else None,
            "proof": dataclasses.asdict(self.proof) if self.proof else None,
        }

    def __str__(self) -> str:
        return self.text()

    def text(self, answers: bool = True) -> str:
        """The report as text.

        Args:
            answers: Whether to say how the network's answers agree, which of random weights says nothing
                where the layers were compared.
        """
        lines = [
            f"{self.path}: {self.name}_run(image, logits), {self.steps} steps, "
            f"{self.binary_convolutions} binary and {self.real_convolutions} real convolutions",
            f"flash: {self.flash:,} bytes of constants; RAM: {self.ram:,} bytes "
            f"({self.ram_per_thread:,} more for each further thread), no allocation; {self.work}",
        ]
        if self.int8_kernels:
            lines[0] += f", {self.int8_kernels} kernels in int8"
        if self.rounding is not None:
            lines.append(f"rounding to int8: {self.rounding}")
        reference = f"{self.reference} with kernels in int8" if self.int8_kernels else self.reference
        if self.parity is None:
            return "\n".join([*lines, f"agreement with {reference}: not checked ({self.unchecked})"])
        if answers or self.proof is None:
            lines.append(f"agreement with {reference}: {self.parity}")
        if self.proof is not None:
            lines.append(
                f"layer by layer: {self.proof.tensors} maps agree, "
                f"{self.proof.flipped:,} of {self.proof.signs:,} signs differ next to zero"
            )
        return "\n".join(lines)


def export_c(
    model: tf.keras.Model | LceFile | bytes | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    classes: Sequence[str] = (),
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    images: np.ndarray | None = None,
    check: bool | None = None,
    header: bool = False,
    subbit: bool = False,
    int8_weights: bool = False,
) -> ExportReport:
    """Writes a model's folded network as one C99 file that needs nothing but a C compiler.

    The file has `int NAME_run(const float *image, float *logits)` for a preprocessed image,
    `NAME_run_u8` for pixels of 0 to 255, the names of the classes, and a `main` under `#ifdef NAME_MAIN` that
    classifies PPM files (`cc -O3 -march=native -DNAME_MAIN net.c -lm`) and measures its time with `-b`.
    It allocates nothing: weights are constants, everything else lies in one static arena. Binary
    convolutions use the vector instructions that the compiler may use (NEON, AVX2, AVX-512, WebAssembly
    SIMD), and plain C otherwise.

    Args:
        model: A functional or built Sequential model with one image as input, or the path of a saved one
            (a folder, or a name that ends in `.keras`, `.h5` or `.hdf5`); or a `.tflite` file that `convert`
            or LCE's converter wrote, or its path or content.
        path: The file to write; an existing one is replaced.
        name: Prefix of the functions; by default the file's name without its ending.
        classes: Names of the classes, for `NAME_class_names`; numbers by default.
        mean: Mean of the training images' pixels (0 to 1), one value or one per channel.
        std: Deviation of the pixels. `NAME_run_u8` gives the network `(pixel / 255 - mean) / std`.
        images: Preprocessed images to compare on; 16 images of noise by default. Files that take raw pixels
            are compared on random ones.
        check: Whether to compile the program, run it and compare it with Keras, layer by layer; by
            default where a C compiler is there. A `.tflite` file is compared with LCE's interpreter.
        header: Whether to write a header file beside it.
        subbit: Whether to store binary 3×3 filters of few patterns, as the sub-bit method trains them, as
            indices into a codebook. That takes b/9 of the flash for b bits an index; the first run expands
            them into memory, which `ram` includes.
        int8_weights: Whether to store the kernels of real layers as int8 with a step for each output
            channel, `max |W| / 127`, a quarter of their flash. Values stay float. The program is compared
            with the network of which the kernels are rounded the same way, within the same limits; the
            report says how far the rounding moves the outputs.

    Raises:
        ConversionError: A layer cannot be exported, or the program does not compute what Keras does.
            Nothing is written.
        UsageError: An argument is wrong.

    Example:
        >>> import tempfile, zoo
        >>> model = zoo.CifarResNet20(method="recu", input_shape=(32, 32, 3), num_classes=10)
        >>> report = export_c(model, tempfile.mkdtemp() + "/resnet20.c", check=False)
        >>> report.binary_convolutions, report.flash
        (18, 41488)
    """
    path = Path(path)
    if not path.name:
        raise UsageError("the path names no file to write")
    if header and path.suffix == ".h":
        raise UsageError(f"the header would take the place of the program in {path}; name the program ….c")
    if isinstance(classes, str) or not all(isinstance(label, str) for label in classes):
        raise UsageError("classes must be a list of names")
    name = _name(path, name)
    lowered = _lowered(model, int8_weights)
    network, file = lowered.network, lowered.file
    if file is not None and file.inputs[0].type == "UINT8":  # it normalizes pixels itself
        mean, std = 0.0, 1.0 / 255.0
    channels, outputs = (network.shapes[t].channels for t in (network.input, network.outputs[0]))
    labels = Labels(tuple(classes), _per_channel("mean", mean, channels), _per_channel("std", std, channels))
    if classes and len(classes) != outputs:
        raise UsageError(f"there are {len(classes)} names of classes for {outputs} classes")
    _require_short_sides(network)
    program = compile_network(network)
    source = write_source(program, name, labels, subbit)
    convolutions = [op for op in network.operations if isinstance(op, Convolution)]
    binary = sum(network.shapes[op.inputs[0]].signs for op in convolutions)
    kernels = [op.kernel for op in network.operations if isinstance(op, Convolution | Depthwise)]
    report = ExportReport(
        path=path,
        header=path.with_suffix(".h") if header else None,
        name=name,
        flash=source.flash,
        ram=program.arena + source.expanded,
        ram_per_thread=program.scratch_size,
        steps=len(program.steps),
        binary_convolutions=binary,
        real_convolutions=len(convolutions) - binary,
        work=network.work(),
        reference="Keras" if file is None else "LCE's interpreter",
        int8_kernels=sum(kernel.dtype == np.int8 for kernel in kernels),
    )
    results = _compared(lowered, program, source.text, name, images, check)
    report = dataclasses.replace(report, **results)
    files.write_text(path, source.text)
    if report.header is not None:
        files.write_text(report.header, source.header)
    return report


@dataclasses.dataclass(frozen=True)
class _Lowered:
    """What is exported.

    Attributes:
        network: Its operations.
        reference: The Keras model or the file that computes the same.
        exact: The same before its kernels were rounded to int8; None with float weights.
        graph: The folded graph of a Keras model.
    """

    network: Network
    reference: Any
    exact: Any = None
    graph: Graph | None = None

    @property
    def file(self) -> LceFile | None:
        return self.reference if isinstance(self.reference, LceFile) else None


def _lowered(model: Any, int8_weights: bool) -> _Lowered:
    """The operations of a model or file in any of the forms that `export_c` takes."""
    if isinstance(model, str | os.PathLike):
        of_keras = Path(model).is_dir() or Path(model).suffix in (".keras", ".h5", ".hdf5")
        model = opened(model) if of_keras else LceFile(model)
    elif isinstance(model, bytes):
        model = LceFile(model)
    exact, graph = model if int8_weights else None, None
    if isinstance(model, LceFile):
        model = round_file(model) if int8_weights else model
        network = lower_file(model)
    else:
        network, graph = lower(model, rounded=int8_weights)
        model = graph.build() if int8_weights else model
    if int8_weights:
        store_levels(network)
    return _Lowered(network, model, exact, graph)


def _require_short_sides(network: Network) -> None:
    for operation in network.operations:
        shapes = [network.shapes[tensor] for tensor in (*operation.inputs, operation.output)]
        sides = max(max(shape.height, shape.width) for shape in shapes)
        if sides > _LONGEST_SIDE:
            raise ConversionError(
                f"'{operation.name}': maps of {sides:,} pixels a side are too large for the program"
            )


def _compared(
    lowered: _Lowered,
    program: Program,
    text: str,
    name: str,
    images: np.ndarray | None,
    check: bool | None,
) -> dict[str, Any]:
    """The fields of a report that say how a program compares with what it was made of."""
    if check is False:
        return {"unchecked": "not asked for"}
    samples, results = _samples(images, lowered), {}
    compiles = check is not None or checks.compiler() is not None
    expected = _outputs(lowered.reference, samples) if compiles or lowered.exact is not None else []
    if lowered.exact is not None:
        before = _outputs(lowered.exact, samples)
        results["rounding"] = proofs.compare(_joined(before), _joined(expected))
    if not compiles:
        return {**results, "unchecked": "there is no C compiler on this machine"}
    few = samples[:_PROVED]
    if lowered.graph is not None:
        outcome = checks.run(program, text, name, samples, trace=len(few))
        proof = checks.prove(program, lowered.graph, outcome, few)
        outputs, other = outcome.outputs, "Keras"
    else:
        # Each step from LCE's values before it, and then the outputs as they are.
        inside = reference(lowered.reference, program, few)
        job = checks.Job(program, text, name, np.concatenate([few, samples]), forced(program, inside))
        (outcome,) = checks.run_several([job], trace=len(few))
        first = [output[: len(few)] for output in expected]
        proof = prove_file(lowered.reference, program, outcome, inside, first)
        outputs, other = [output[len(few) :] for output in outcome.outputs], "LCE's interpreter"
    parity = proofs.compare(_joined(expected), _joined(outputs))
    if proof.difference is not None:
        problem = f"{proof.difference}" + (f"; {parity.problem}" if parity.problem else "")
        raise proofs.Disagreement(f"the exported program disagrees with {other}: {problem}", parity)
    # Where rounding has moved many outputs, the layers decide.
    return {**results, "proof": proof, "parity": dataclasses.replace(parity, layers_agree=True)}


def _outputs(network: Any, images: np.ndarray) -> list[np.ndarray]:
    """All outputs of a Keras model or of a file."""
    return run_file(network, images) if isinstance(network, LceFile) else outputs_of(network, [images])


def _joined(outputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.reshape(len(part), -1) for part in outputs], axis=1)


def _samples(images: np.ndarray | None, lowered: _Lowered) -> np.ndarray:
    """The images to compare on; of files that take raw pixels random ones, whatever is given."""
    ends: Any = lowered.file or lowered.graph
    shape, random = ends.inputs[0].shape[1:], np.random.default_rng(0)
    if images is None:
        samples = random.standard_normal([_IMAGES, *(size or 1 for size in shape)], np.float32)
    else:
        samples = np.asarray(images, np.float32)
        if not len(samples) or samples.shape[1:] != tuple(shape):
            raise UserError(
                f"the images to compare on have shape {samples.shape}, the network takes {tuple(shape)}"
            )
    if lowered.file is not None and lowered.file.inputs[0].type == "UINT8":
        return np.random.default_rng(0).integers(0, 256, samples.shape).astype(np.float32)
    return samples


def _name(path: Path, name: str | None) -> str:
    if name is None:
        name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
        name = f"network_{name}" if name[0].isdigit() or _KEYWORDS.fullmatch(name) else name
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _KEYWORDS.fullmatch(name):
        raise UsageError(f"{name!r} is no name that C functions can begin with")
    return name


def _per_channel(what: str, values: float | Sequence[float], channels: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in np.atleast_1d(np.asarray(values, np.float64)))
    if len(numbers) not in (1, channels):
        raise UsageError(f"{what} has {len(numbers)} values for {channels} channels")
    if not all(np.isfinite(numbers)) or (what == "std" and np.asarray(numbers, np.float32).min() <= 0):
        raise UsageError(f"{what} must be {'positive' if what == 'std' else 'finite'}, not {values}")
    return numbers
