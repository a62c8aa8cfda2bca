"""Latency of exported programs, side by side with `.tflite` files in `bnn_tf.deploy.benchmark`."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from types import TracebackType

from bnn_tf.deploy.benchmark import Candidate, OperatorCount
from bnn_tf.errors import UserError
from bnn_tf.export import check

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-D_POSIX_C_SOURCE=199309L")

# Reads how many inferences to run, writes the seconds of each and the peak of resident kilobytes. getrusage
# may count the process that started this one, so /proc is asked first.
_HARNESS = """
#include "{source}"
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
static double seconds(void)
{{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}}
static long peak(void)
{{
    FILE *const file = fopen("/proc/self/status", "r");
    char line[256];
    long kilobytes = -1;
    struct rusage use;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {{
        sscanf(line, "VmHWM: %ld", &kilobytes);
    }}
    if (file != NULL) {{
        fclose(file);
    }}
    getrusage(RUSAGE_SELF, &use);
    return kilobytes >= 0 ? kilobytes : use.ru_maxrss;
}}
int main(void)
{{
    static float image[{upper}_HEIGHT * {upper}_WIDTH * {upper}_CHANNELS];
    static float logits[{upper}_CLASSES];
{others}
    unsigned int state = 1;
    int i, runs;
    for (i = 0; i < (int)(sizeof image / sizeof image[0]); ++i) {{
        state = 1664525u * state + 1013904223u;
        image[i] = (float)((int)(state >> 16) % 2001 - 1000) / 500.0f;
    }}
    while (scanf("%d", &runs) == 1) {{
        for (i = 0; i < runs; ++i) {{
            const double start = seconds();
            {name}_run(image, logits{arguments});
            printf("%.9f ", seconds() - start);
        }}
        printf("%ld\\n", peak());
        fflush(stdout);
    }}
    return 0;
}}
"""


@dataclasses.dataclass(frozen=True)
class CompiledProgram(Candidate):
    """An exported C file, compiled for this machine; `path` is the compiled program."""

    threaded = False

    @classmethod
    def of(cls, source: Path, name: str, outputs: int = 1, label: str | None = None) -> CompiledProgram:
        """Compiles an exported C file for this machine; the program lies beside it.

        Args:
            source: The C file.
            name: What its functions begin with.
            outputs: How many outputs it has.
            label: What it is called in the report.

        Raises:
            UserError: There is no compiler, or it refuses the file.
        """
        compiler = check.compiler()
        if compiler is None:
            raise UserError("there is no C compiler (cc, gcc or clang) on this machine")
        upper, path = name.upper(), source.with_suffix(".program")
        others = [f"    static float output{n}[{upper}_OUTPUT{n}_SIZE];" for n in range(1, outputs)]
        arguments = "".join(f", output{n}" for n in range(1, outputs))
        text = _HARNESS.format(
            source=source.name, name=name, upper=upper, others="\n".join(others), arguments=arguments
        )
        result = subprocess.run(
            [compiler, *FLAGS, "-I", str(source.parent), "-x", "c", "-", "-o", str(path), "-lm"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            reason = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr)
            raise UserError(f"{source} does not compile: {reason[:300]}")
        return cls(label or str(source), "C", path)

    def operators(self) -> list[OperatorCount]:
        """None: it is one program."""
        return []

    def worker(self, threads: int, xnnpack: bool) -> Timer:
        """The program, started."""
        return Timer(self.path)


class Timer:
    """A compiled program that runs as many inferences as it is told to."""

    def __init__(self, path: Path) -> None:
        self._path, self._kilobytes = path, 0
        self._process = subprocess.Popen(
            [str(path.resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, runs: int) -> list[float]:
        """Seconds of each of `runs` inferences."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{runs}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise UserError(f"{self._path} has ended") from error
        *seconds, kilobytes = self._process.stdout.readline().split() or [""]
        if len(seconds) != runs:
            raise UserError(f"{self._path} ends with code {self._process.wait()}")
        self._kilobytes = int(kilobytes)
        return [float(number) for number in seconds]

    def memory(self) -> int:
        """Peak of resident memory of the whole program, in bytes."""
        return 1024 * self._kilobytes

    def __enter__(self) -> Timer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
