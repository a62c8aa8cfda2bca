"""What is compared: files, and what stands in them."""

import collections
import dataclasses
from pathlib import Path

from bnn_tf.deploy.flatbuffer import Operator, TensorInfo, operators


@dataclasses.dataclass(frozen=True)
class OperatorCount:
    """How often an operator stands in a file.

    Attributes:
        name: TFLite's or LCE's name.
        type: Types of its first input and output, one if they are the same; `"bits"` are packed signs.
        count: How often.
    """

    name: str
    type: str
    count: int

    def __str__(self) -> str:
        return f"{self.count} {self.name} {self.type}"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A `.tflite` file to measure.

    Attributes:
        name: What it is called in the report.
        form: `"LCE"`, `"float32"`, `"int8"`, or `"TFLite"`.
        path: The file.
    """

    name: str
    form: str
    path: Path

    @classmethod
    def of_file(cls, path: Path, name: str | None = None) -> "Candidate":
        """A file as it is: LCE's where it holds operators of LCE.

        Raises:
            UserError: There is no such file, or it is no TFLite model.
        """
        binary = any(operator.name.startswith("Lce") for operator in operators(path))
        return cls(name or str(path), "LCE" if binary else "TFLite", path)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    def operators(self) -> list[OperatorCount]:
        """Its operators by type, the most frequent first."""
        counts = collections.Counter((op.name, _type(op)) for op in operators(self.path))
        return [OperatorCount(name, kind, count) for (name, kind), count in counts.most_common()]


def _type(operator: Operator) -> str:
    ends = [_element(operator, tensors[0]) for tensors in (operator.inputs, operator.outputs) if tensors]
    return "→".join(dict.fromkeys(ends))


def _element(operator: Operator, tensor: TensorInfo) -> str:
    packed = tensor.type == "INT32" and operator.name.startswith("Lce")
    return "bits" if packed else tensor.type.lower()
