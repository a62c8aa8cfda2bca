"""Writes the folder of a device kit."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.data import Images
from bnn_tf.deploy.graph import ConversionError
from bnn_tf.deploy.lce_file import NOT_INSTALLED
from bnn_tf.device_kit import web
from bnn_tf.device_kit.files import preprocess
from bnn_tf.device_kit.reference import Reference
from bnn_tf.errors import UserError
from bnn_tf.export import ExportReport, export_c
from bnn_tf.values import InNotebooks

Quantization = tuple[float, int] | None

FILES = Path(__file__).parent / "files"
_LIKELIEST = 5
_PROGRAM = ("net.c", "net.wasm", "reference_image.ppm")
_OF_LCE = (
    *("model.tflite", "predict.py", "common.sh", "run_lce_on_android.sh", "run_lce_on_pi.sh"),
    "input_shape.txt",
)
_WITHOUT_LCE = """
> **This kit was made without Larq Compute Engine.** `model.tflite`, `predict.py` and the `run_lce_on_…`
> scripts are not in it, and the expected output comes from Keras. What is said of the C file and the page
> holds.
"""


@dataclasses.dataclass(frozen=True)
class KitReport(InNotebooks):
    """What was written.

    Attributes:
        path: The folder.
        files: Names of its files, in order.
        size: Bytes of the model; None where it is missing.
        reference: The example that it holds.
        top: The likeliest classes of the example: name, number, output.
        program: What was exported as a C program, and how it compares with Keras; None where nothing was.
        no_program: Why the network is not in it as a C program; None where it is, or was not asked for.
        no_model: Why the `.tflite` file and what runs it are not in it; None where they are.
    """

    path: Path
    files: tuple[str, ...]
    size: int | None
    reference: Reference
    top: tuple[dict[str, Any], ...]
    program: ExportReport | None = None
    no_program: str | None = None
    no_model: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "files": list(self.files),
            "size": self.size,
            "top": list(self.top),
            "spread": self.reference.spread,
            "tolerance": self.reference.tolerance,
            "keras_difference": self.reference.keras_gap,
            "keras_agreement": self.reference.agreement,
            "program": self.program.to_dict() if self.program else None,
            "no_program": self.no_program,
            "no_model": self.no_model,
        }

    def __str__(self) -> str:
        likely = ", ".join(f"{entry['label']} ({entry['output']:.3f})" for entry in self.top)
        model = "" if self.size is None else f", model {self.size:,} bytes"
        lines = [
            f"{self.path}: {len(self.files)} files{model}; start with README.md",
            f"expected for the reference image: {likely}",
        ]
        if self.no_model is None:
            lines.append(
                f"differs from Keras by {self.reference.keras_gap:.2g} on it; "
                f"{self.reference.agreement:.0%} of the images tried for it are classified alike"
            )
        else:
            lines.append(f"without model.tflite and the scripts that run it: {self.no_model}")
        if self.program is not None:
            lines += ["as a C program:", *(f"  {line}" for line in str(self.program).splitlines())]
        if self.no_program is not None:
            lines.append(f"without a C program: {self.no_program}")
        if not self.reference.steady:
            lines.append(
                f"every image tried moves by rounding alone (by {self.reference.spread:.2g}, allowed "
                f"{self.reference.tolerance:.2g}), so a device may disagree although nothing is wrong"
            )
        return "\n".join(lines)


def write(
    folder: Path,
    model: Path | None,
    labels: Sequence[str],
    preprocessing: Images,
    reference: Reference,
    input_quantization: Quantization = None,
    output_quantization: Quantization = None,
    network: tf.keras.Model | None = None,
) -> KitReport:
    """Fills a folder with the kit; files of the same names are replaced.

    Args:
        folder: Where; it is made if need be.
        model: The `.tflite` file; None on a computer that cannot make or run one. Then the kit holds the C
            program and the page alone, and the reference is Keras'.
        labels: A name for each output.
        preprocessing: How an image becomes an input.
        reference: The example.
        input_quantization: Scale and zero point of an int8 input.
        output_quantization: Scale and zero point of an int8 output.
        network: The Keras model; it is added as one C file, if all its layers can be exported.

    Raises:
        UserError: the folder cannot be written to; or there is neither a `.tflite` file nor a C program.
    """
    program = no_program = None
    computed_by = "Keras" if model is None else "Larq Compute Engine's interpreter"
    expected = _expected(labels, reference, computed_by, output_quantization)
    how = rule(preprocessing, input_quantization)
    names = [" ".join(label.split()) for label in labels]  # a line holds one name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if network is not None:
            plain = input_quantization is None
            try:
                program = _write_program(folder, network, names, preprocessing, reference, plain)
            except UserError as error:
                no_program = str(error)
                for name in (*_PROGRAM, *(source.name for source in (FILES / "program").iterdir())):
                    (folder / name).unlink(missing_ok=True)  # a former kit's, of another network
        if model is None and program is None:
            if not any(folder.iterdir()):
                folder.rmdir()
            raise UserError(f"no kit was written: it has no C program ({no_program}), and {NOT_INSTALLED}")
        for source in FILES.iterdir():
            if source.is_file():
                shutil.copyfile(source, folder / source.name)
                (folder / source.name).chmod(0o755 if source.read_bytes().startswith(b"#!") else 0o644)
        (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for name, value in (("preprocessing.json", how), ("expected.json", expected)):
            (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        _write_arrays(folder, reference, preprocess.preprocess(reference.image, how))
        if model is not None:
            shutil.copyfile(model, folder / "model.tflite")
        else:
            for name in _OF_LCE:
                (folder / name).unlink(missing_ok=True)
            title, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("\n")
            (folder / "README.md").write_text(f"{title}\n{_WITHOUT_LCE}{rest}", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the kit to {folder}: {error.strerror or error}") from error
    return KitReport(
        path=folder,
        files=tuple(sorted(path.name for path in folder.iterdir() if path.is_file())),
        size=None if model is None else model.stat().st_size,
        reference=reference,
        top=tuple(expected["top"]),
        program=program,
        no_program=no_program,
        no_model=NOT_INSTALLED if model is None else None,
    )


def _write_program(
    folder: Path,
    network: tf.keras.Model,
    names: Sequence[str],
    preprocessing: Images,
    reference: Reference,
    same: bool,
) -> ExportReport:
    """Adds the network as a C file, compared with Keras on the reference, what compiles it, and a page.

    `same`: whether the reference's outputs are those of this network, not of one with int8 weights.
    """
    how = rule(preprocessing)
    mean, std, inputs = preprocessing.mean, preprocessing.std, preprocess.preprocess(reference.image, how)
    export = functools.partial(
        export_c, network, folder / "net.c", classes=names, mean=mean, std=std, images=inputs
    )
    try:
        report = export()
    except ConversionError:
        raise
    except UserError as error:  # this machine's compiler does not work; it is not the device's
        report = dataclasses.replace(export(check=False), unchecked=str(error))
    for source in (FILES / "program").iterdir():
        shutil.copy(source, folder / source.name)
    pixels = preprocess.view(reference.image, how)
    height, width, channels = pixels.shape
    head = b"P%d %d %d 255\n" % (6 if channels == 3 else 5, width, height)
    (folder / "reference_image.ppm").write_bytes(head + pixels.tobytes())
    web.write_page(folder, names, preprocessing, pixels, reference if same else None)
    return report


def rule(preprocessing: Images, quantization: Quantization = None) -> dict[str, Any]:
    """What `preprocessing.json` says; `files/preprocess.py` computes it."""
    dtype = "int8" if quantization else "float32"
    return {**preprocessing.contract(), "dtype": dtype, "quantization": quantization}


def _expected(
    labels: Sequence[str], reference: Reference, computed_by: str, quantization: Quantization
) -> dict[str, Any]:
    """What `expected.json` says."""
    outputs = reference.outputs.ravel()
    order = np.argsort(-outputs, kind="stable")[:_LIKELIEST]
    return {
        "top": [{"label": labels[i], "class": int(i), "output": float(outputs[i])} for i in order],
        "tolerance": reference.tolerance,
        "moved_by_rounding": reference.spread,
        "differs_from_keras": reference.keras_gap,
        "computed_by": f"{computed_by} on the computer that made this kit",
        "quantization": quantization,
    }


def _write_arrays(folder: Path, reference: Reference, inputs: np.ndarray) -> None:
    np.save(folder / "reference_image.npy", reference.image)
    (folder / "reference_image.png").write_bytes(tf.io.encode_png(reference.image).numpy())
    for name in ("reference_input.npy", "reference_input.bin"):
        preprocess.write_array(folder / name, inputs)
    np.save(folder / "expected_output.npy", reference.outputs)
    shape = ",".join(str(size) for size in inputs.shape)
    (folder / "input_shape.txt").write_text(shape + "\n")
