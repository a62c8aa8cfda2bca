"""What lint found."""

import dataclasses
import enum
from typing import Any

_NAMED = 4  # layers with the same finding that are printed


class Severity(str, enum.Enum):
    """How bad a finding is.

    `ERROR`: the layer stays float although it is quantized, or the file fails to run or computes something
    else. `WARNING`: it converts and is right, but costs time or memory. `INFO`: nothing need be done.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that lint has to say about a layer.

    Attributes:
        code: Short stable name of the rule, e.g. `"strided-padding"`.
        severity: How bad it is.
        layer: Name of the layer, with those of the models it is nested in; the model's name where it
            concerns the whole model.
        reason: What will happen.
        remedy: What to do about it.
    """

    code: str
    severity: Severity
    layer: str
    reason: str
    remedy: str

    def to_dict(self) -> dict[str, str]:
        """The finding with plain values, for JSON."""
        return {**dataclasses.asdict(self), "severity": self.severity.value}

    def __str__(self) -> str:
        return f"{self.severity.value} {self.code}: {self.layer}: {self.reason}. {self.remedy}."


@dataclasses.dataclass(frozen=True)
class LintReport:
    """All findings on a model, the worst first.

    Attributes:
        model: The model's name.
        findings: What was found, in the order of the layers within each severity.
    """

    model: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What would break."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What would be slow or large."""
        return self._of(Severity.WARNING)

    @property
    def infos(self) -> tuple[Finding, ...]:
        """What is worth knowing."""
        return self._of(Severity.INFO)

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            "model": self.model,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "infos": len(self.infos),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        alike: dict[tuple[Severity, str, str, str], list[str]] = {}
        for found in self.findings:
            key = (found.severity, found.code, found.reason, found.remedy)
            alike.setdefault(key, []).append(found.layer)
        lines = [
            f"{severity.value} {code}: {_named(layers)}\n    {reason}\n    → {remedy}"
            for (severity, code, reason, remedy), layers in alike.items()
        ]
        counts = [(self.errors, "error"), (self.warnings, "warning"), (self.infos, "note")]
        total = ", ".join(f"{len(found)} {name}{'s' * (len(found) != 1)}" for found, name in counts)
        return "\n".join([*lines, f"{self.model}: {total}"])


def _named(layers: list[str]) -> str:
    rest = f" and {len(layers) - _NAMED} more" * (len(layers) > _NAMED)
    return ", ".join(layers[:_NAMED]) + rest
