"""Proof that a program computes what Keras computes: compiled, run, and compared layer by layer.

Deep binary networks amplify rounding: where an activation lies next to zero, rounding decides its sign, and
one flipped sign may move every logit. So each step is judged by itself. Every tensor that the program keeps
is written out; the Keras layers behind it are computed from that tensor up to the next ones. Computed from
the same values, maps agree up to rounding, and signs differ only where the value is next to zero.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.proof import deviation, lost_digits
from bnn_tf.errors import UserError, first_line
from bnn_tf.export.operations import Tensor
from bnn_tf.export.program import Border, Program

if TYPE_CHECKING:
    from bnn_tf.deploy.graph import Graph

TOLERANCE = 1e-4
"""Largest difference that is rounding, in units of the deviation of the layer's values."""
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off")

_HEAD = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static int traced;
static void keep(const void *from, size_t size)
{
    if (fwrite(from, 1, size, stdout) != size) {
        exit(1);
    }
}
"""
_FORCE = """
static FILE *forced;
static void force(void *to, size_t size)
{
    if (forced == NULL || fread(to, 1, size, forced) != size) {
        exit(1);
    }
}
"""
_PART = """
static void {name}_after(int step, uint8_t *arena)
{{
    (void)arena;
    if (traced <= 0) {{
        return;
    }}
    switch (step) {{
{cases}
    default:
        break;
    }}
}}
#define {upper}_AFTER(n)                                     \\
    if (part == 0) {{                                         \\
        {name}_after(n, (uint8_t *)(void *){name}_arena);     \\
    }}                                                        \\
    {name}_meet();
{include}
static int {name}_check(const char *path)
{{
    static float image[{pixels}];
{declared}
    FILE *const file = fopen(path, "rb");
    if (file == NULL) {{
        return 1;
    }}
    while (fread(image, sizeof image[0], {pixels}, file) == {pixels}) {{
        if ({name}_run(image, {outputs}) != 0) {{
            return 2;
        }}
{kept}
        --traced;
    }}
    fclose(file);
    return 0;
}}
"""
_MAIN = """
int main(int argc, char **argv)
{{
    if (argc != {count} + 2) {{
        return 3;
    }}
{calls}
    return 0;
}}
"""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a program and Keras differ by more than rounding.

    Attributes:
        layer: The layer whose output it is.
        share: Share of its values (or signs) that differ.
        largest: Largest difference; for signs, the largest value that has the wrong one.
    """

    layer: str
    share: float
    largest: float

    def __str__(self) -> str:
        return f"'{self.layer}' differs in {self.share:.2%} of its values, by up to {self.largest:.2g}"


@dataclasses.dataclass
class LayerProof:
    """What the comparison of all layers says.

    Attributes:
        tensors: How many maps of values and of signs were compared.
        flipped: How many signs differ where the value is next to zero.
        signs: How many signs there are.
        difference: The first layer that differs by more than rounding; None where all agree.
    """

    tensors: int = 0
    flipped: int = 0
    signs: int = 0
    difference: Difference | None = None

    def compare_values(
        self, layer: str, actual: np.ndarray, expected: np.ndarray, lost: np.ndarray | float, step: float = 0
    ) -> None:
        """Compares the values of a layer, of which large sums lose `lost`, and which may be off by a step."""
        gap = np.abs(actual - expected)
        rounding = np.maximum(TOLERANCE * np.maximum(deviation(expected), np.abs(expected)), lost)
        self._note(layer, ~(gap <= np.maximum(rounding, step)), gap)

    def compare_signs(
        self, layer: str, differs: np.ndarray, sizes: np.ndarray, limit: np.ndarray | float
    ) -> None:
        """Takes in which signs of a layer differ, how large their values are, and up to where they may."""
        self.flipped += int(differs.sum())
        self.signs += differs.size
        wrong = differs & ~(sizes <= limit)
        self._note(layer, wrong, sizes[wrong])

    def _note(self, layer: str, wrong: np.ndarray, sizes: np.ndarray) -> None:
        self.tensors += 1
        if wrong.any() and self.difference is None:
            self.difference = Difference(layer, float(wrong.mean()), float(sizes.max()))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a compiled program computed.

    Attributes:
        outputs: Each output, `(images, …)`.
        values: Float maps that it kept, by tensor.
        signs: Maps of signs that it kept, -1 and +1, by tensor.
    """

    outputs: list[np.ndarray]
    values: dict[Tensor, np.ndarray]
    signs: dict[Tensor, np.ndarray]


def compiler() -> str | None:
    """The path of a C compiler, if there is one."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


@dataclasses.dataclass(frozen=True)
class Job:
    """A program to run on images.

    Attributes:
        program: The program.
        text: Its C text.
        name: The prefix of its functions.
        images: `(n, height, width, channels)`.
        forced: For tensors of the program: values `(n, height, width, channels)`, signs as -1 and +1, that
            replace what it has computed, once that is kept, so that what follows starts from them. They are
            for the images whose maps are kept.
    """

    program: Program
    text: str
    name: str
    images: np.ndarray
    forced: Mapping[Tensor, np.ndarray] = dataclasses.field(default_factory=dict)


def run(program: Program, text: str, name: str, images: np.ndarray, *options: Any, **named: Any) -> Outcome:
    """Compiles one program and runs it; the options are those of `run_several`."""
    return run_several([Job(program, text, name, images)], *options, **named)[0]


def run_several(
    jobs: Sequence[Job],
    command: Sequence[str] | None = None,
    launcher: Sequence[str] = (),
    trace: int = 0,
    suffix: str = ".c",
) -> list[Outcome]:
    """Compiles programs with different prefixes together, and runs each on its images.

    Args:
        jobs: The programs.
        command: The compiler with its flags; by default the compiler of this machine.
        launcher: What starts the compiled program, e.g. an emulator.
        trace: For how many images to keep the intermediate maps.
        suffix: Ending of the source file's name.

    Raises:
        UserError: They do not compile, or end with an error.
    """
    if command is None:
        own = compiler()
        if own is None:
            raise UserError("there is no C compiler (cc, gcc or clang) to check the program with")
        command = [own, *FLAGS]
    places = [_places(job.program) for job in jobs]
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, f"check{suffix}"), Path(folder, "check")
        source.write_text(_text(jobs, places))
        for number, (job, kept) in enumerate(zip(jobs, places, strict=True)):
            Path(folder, str(number)).write_bytes(np.ascontiguousarray(job.images, "<f4").tobytes())
            if job.forced:
                parts = [
                    _stored(job.program, p.tensor, job.forced[p.tensor])
                    for p in kept
                    if p.tensor in job.forced
                ]
                Path(folder, f"{number}.forced").write_bytes(np.concatenate(parts, axis=1).tobytes())
        _call([*command, str(source), "-o", str(binary), "-lm"], "the compiler")
        names = [str(number) for number in range(len(jobs))]
        raw = _call([*launcher, str(binary), str(trace), *names], "the compiled program", folder)
    outcomes = []
    for job, kept in zip(jobs, places, strict=True):
        outcome, raw = _parsed(job, kept, raw, min(trace, len(job.images)))
        outcomes.append(outcome)
    if raw:
        raise UserError(f"the compiled program wrote {len(raw)} bytes too many")
    return outcomes


def prove(program: Program, graph: Graph, outcome: Outcome, images: np.ndarray) -> LayerProof:
    """Compares everything that a program kept with the Keras layers of the graph it was made of."""
    origins = program.network.origins
    values = {origins[tensor]: array for tensor, array in outcome.values.items() if tensor in origins}
    signs = {origins[tensor]: array for tensor, array in outcome.signs.items() if tensor in origins}
    for tensor, array in zip(graph.outputs, outcome.outputs, strict=True):
        values[tensor] = array[: len(images)]
    known: dict[Any, np.ndarray] = {graph.inputs[0]: np.asarray(images, np.float32)}
    lost: dict[Any, np.ndarray] = {graph.inputs[0]: np.zeros(())}
    layers: dict[Any, Any] = {}
    proof = LayerProof()
    for call in graph.calls:
        if call.layer.kind is tf.keras.layers.InputLayer:
            continue
        signed = facts.takes_signs(call.layer)
        largest = 1.0 if signed else float(np.abs(known[call.inputs[0]]).max(initial=0.0))
        rounding = lost_digits(call, [lost[tensor] for tensor in call.inputs], largest)
        results = call.compute([tf.constant(known[tensor]) for tensor in call.inputs], layers)
        for tensor, result in zip(call.outputs, results, strict=True):
            expected = np.asarray(result, np.float32)
            lost[tensor] = rounding
            if tensor in values:
                actual = values[tensor].reshape(expected.shape)
                proof.compare_values(call.layer.name, actual, expected, rounding)
                expected, lost[tensor] = actual, np.zeros(())
            if tensor in signs:
                actual = signs[tensor].reshape(expected.shape)
                differs = (actual >= 0) != (expected >= 0)
                limit = np.maximum(TOLERANCE * deviation(expected), lost[tensor])
                proof.compare_signs(call.layer.name, differs, np.abs(expected), limit)
                expected = np.where(differs, np.copysign(np.float32(1e-30), actual), expected)
            known[tensor] = expected
    return proof


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A tensor in the arena after a step."""

    step: int
    tensor: Tensor
    offset: int
    size: int


def _places(program: Program) -> list[_Kept]:
    kept = []
    for number, step in enumerate(program.steps):
        for tensor in step.writes:
            if program.root(tensor) in program.offsets:
                offset = program.offsets[program.root(tensor)]
                kept.append(_Kept(number, tensor, offset, program.size(tensor)))
    return kept


def _text(jobs: Sequence[Job], places: Sequence[Sequence[_Kept]]) -> str:
    """The C text of all programs, and of a `main` that runs each on the images in the file of its number."""
    parts = [_part(job, kept) for job, kept in zip(jobs, places, strict=True)]
    calls = [
        "    traced = atoi(argv[1]);\n"
        + (f'    forced = fopen("{number}.forced", "rb");\n' if job.forced else "")
        + f"    if ({job.name}_check(argv[{number + 2}]) != 0) {{ return 1; }}"
        for number, job in enumerate(jobs)
    ]
    head = [_HEAD, _FORCE] if any(job.forced for job in jobs) else [_HEAD]
    return "\n".join([*head, *parts, _MAIN.format(count=len(jobs), calls="\n".join(calls))])


def _part(job: Job, places: Sequence[_Kept]) -> str:
    """The C text of a program, and of what runs it and writes out what it computed."""
    network, name = job.program.network, job.name
    cases = []
    for step in dict.fromkeys(place.step for place in places):
        here = [place for place in places if place.step == step]
        lines = [f"        keep(arena + {p.offset}, {p.size});" for p in here]
        lines += [f"        force(arena + {p.offset}, {p.size});" for p in here if p.tensor in job.forced]
        cases += [f"    case {step}:", *lines, "        break;"]
    sizes = [network.shapes[tensor].values for tensor in network.outputs]
    return _PART.format(
        name=name,
        upper=name.upper(),
        cases="\n".join(cases),
        include=job.text,
        pixels=network.shapes[network.input].values,
        declared="\n".join(f"    static float output{n}[{size}];" for n, size in enumerate(sizes)),
        outputs=", ".join(f"output{n}" for n in range(len(sizes))),
        kept="\n".join(f"        keep(output{n}, sizeof output{n});" for n in range(len(sizes))),
    )


def _call(command: Sequence[str], what: str, folder: str | None = None) -> bytes:
    try:
        result = subprocess.run(command, capture_output=True, cwd=folder, check=False)
    except OSError as error:
        raise UserError(f"{what} cannot be started: {error.strerror}") from error
    if result.returncode or (result.stderr and b"runtime error" in result.stderr):
        message = result.stderr.decode(errors="replace")
        reason = next((line for line in message.splitlines() if "error" in line.lower()), message)
        raise UserError(f"{what} failed ({result.returncode}): {first_line(UserError(reason))[:300]}")
    return result.stdout


def _parsed(job: Job, places: Sequence[_Kept], raw: bytes, traced: int) -> tuple[Outcome, bytes]:
    """What a program wrote of its images, of `traced` with their maps, and the bytes that follow."""
    network, rest = job.program.network, len(job.images) - traced
    kept = sum(place.size for place in places)
    sizes = [4 * network.shapes[tensor].values for tensor in network.outputs]
    split = (kept + sum(sizes)) * traced
    end = split + sum(sizes) * rest
    if len(raw) < end:
        raise UserError(f"the compiled program wrote {len(raw)} bytes, too few")
    with_maps = np.frombuffer(raw[:split], np.uint8).reshape(traced, kept + sum(sizes))
    without = np.frombuffer(raw[split:end], np.uint8).reshape(rest, sum(sizes))
    table = np.concatenate([with_maps[:, kept:], without])
    values, signs, start = {}, {}, 0
    for place in places if traced else ():
        part = np.ascontiguousarray(with_maps[:, start : start + place.size])
        start += place.size
        shape = network.shapes[place.tensor]
        if shape.signs:
            signs[place.tensor] = _unpacked(job.program, place.tensor, part)
        else:
            size = (traced, shape.height, shape.width, shape.channels)
            values[place.tensor] = part.view("<f4").reshape(size)
    parts = np.split(table, np.cumsum(sizes)[:-1], axis=1)
    outputs = [np.ascontiguousarray(part).view("<f4") for part in parts]
    return Outcome(outputs, values, signs), raw[end:]


def _stored(program: Program, tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """Values or signs `(n, height, width, channels)` as they lie in the arena, `(n, bytes)`."""
    count = len(array)
    if not program.network.shapes[tensor].signs:
        return np.ascontiguousarray(array, "<f4").reshape(count, -1).view(np.uint8)
    border = program.borders.get(tensor, Border())
    bits = np.packbits(array < 0, axis=-1, bitorder="little")
    margins = ((0, 0), (border.top, border.bottom), (border.left, border.right), (0, 0))
    return np.pad(bits, margins).reshape(count, -1)


def _unpacked(program: Program, tensor: Tensor, part: np.ndarray) -> np.ndarray:
    """Signs of shape `(n, height, width, channels)` from what lies in the arena."""
    shape, border = program.network.shapes[tensor], program.borders.get(tensor, Border())
    width = shape.width + border.left + border.right
    pixels = part.reshape(len(part), -1, width, shape.pixel_bytes)
    rows, columns = (
        slice(border.top, border.top + shape.height),
        slice(border.left, border.left + shape.width),
    )
    inner = pixels[:, rows, columns]
    bits = np.unpackbits(inner, axis=-1, bitorder="little")[..., : shape.channels]
    return 1 - 2 * bits.astype(np.float32)
