"""The machine that latencies were measured on."""

import dataclasses
import os
import platform
from pathlib import Path

_X86 = ("x86_64", "amd64", "i386", "i686")


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine.

    Attributes:
        cpu: Model of the processor.
        cores: Logical cores that this process may use.
        architecture: E.g. `"x86_64"`.
        system: Operating system.
        load: Processes that wanted a core, on average over the last minute; None where not known.
    """

    cpu: str
    cores: int
    architecture: str
    system: str
    load: float | None = None

    @classmethod
    def this(cls) -> "Host":
        """The machine that runs this, with its load now."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return cls(_cpu(), _cores(), platform.machine(), platform.system(), load)

    @property
    def caveat(self) -> str:
        """What the latencies of this machine are not."""
        if self.architecture.lower() in _X86:
            return (
                "x86 has no optimized LCE kernels: latencies on this host say nothing about ARM, "
                "where devices run lce_benchmark_model or LCE's libraries."
            )
        return "Latencies hold for this host only; other processors must be measured themselves."

    def __str__(self) -> str:
        load = "" if self.load is None else f", load {self.load:.1f} before"
        return f"{self.cpu}, {self.cores} cores, {self.architecture}, {self.system}{load}"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip().lower(): value.strip() for key, value in fields.items()}
    return named.get("model name") or named.get("hardware") or platform.processor() or "unknown processor"
