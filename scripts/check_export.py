"""Compiles random networks as C programs and compares them with the same operations in NumPy.

    python scripts/check_export.py --networks 5000 --seed 1
    python scripts/check_export.py --command "cc -O1 -fsanitize=address,undefined -fno-sanitize-recover"
    python scripts/check_export.py --command "cc -O1 -DNET_THREADS=3 -pthread"
    python scripts/check_export.py --command "zig cc -target aarch64-linux-musl" --launcher qemu-aarch64

Networks are compiled in batches. Sizes, strides, dilations, paddings, channels and branches are drawn so
that remainders occur everywhere.
TensorFlow is not needed. Exit code 1 and the seed of the network where one differs.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence

import numpy as np

import bnn_tf  # noqa: F401  (found before anything beside this script)
from bnn_tf.export.check import Job, Outcome, run_several
from bnn_tf.export.operations import (
    AT_LEAST,
    CLAMP,
    PRELU,
    RELU,
    RELU6,
    Combine,
    Concatenate,
    Convolution,
    Depthwise,
    Map,
    Network,
    Place,
    Pool,
    Shape,
    Sign,
    Window,
)
from bnn_tf.export.program import compile_network
from bnn_tf.export.source import PIECES, Labels, runtime, write_source


class Random:
    """A random network, and the value of each of its tensors for one image."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        shape = Shape(self.pick(1, 9), self.pick(1, 9), self.pick(1, 20))
        self.network = Network("random", [], {}, 0, [])
        self.network.input = self.network.new_tensor(shape)
        self.image = self.normal(shape.height, shape.width, shape.channels)
        self.values = {self.network.input: self.image}
        self.tie = False  # whether rounding may decide a sign
        last = self.network.input
        for _ in range(self.pick(2, 8)):
            last = self.step(last)
        self.network.outputs = [last]

    def pick(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return int(self.rng.integers(low, high + 1))

    def channels(self, most: int) -> int:
        """A number of channels; every other one is a multiple of 16, for which programs work in vectors."""
        return self.pick(1, most) if self.rng.integers(2) else 16 * self.pick(1, most // 16)

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal values."""
        return self.rng.standard_normal(shape).astype(np.float32)

    def add(self, kind, inputs, value, signs=False, **options) -> int:
        """Adds an operation and the value that it makes."""
        output = self.network.new_tensor(Shape(*value.shape, signs))
        self.network.operations.append(kind(f"layer{output}", inputs, output, **options))
        self.values[output] = value.astype(np.float32)
        return output

    def floats(self) -> list[int]:
        """The tensors of float values so far."""
        return [tensor for tensor in self.values if not self.network.shapes[tensor].signs]

    def step(self, last: int) -> int:
        """Adds one random operation behind `last`."""
        choice = self.rng.choice(
            ["binary", "binary", "binary", "real", "depthwise", "pool", "map", "sum", "join", "place"]
        )
        return getattr(self, str(choice))(last)

    def window(self, tensor: int, dilated: bool = True) -> tuple[Window, tuple[int, int]]:
        """A random window over a map, and how many output rows and columns it has."""
        shape = self.network.shapes[tensor]
        size, stride, dilation, before, count = [], [], [], [], []
        for length in (shape.height, shape.width):
            same = bool(self.rng.integers(2)) or length < 3
            taps, step, apart = (
                self.pick(1, 5 if same else min(length, 5)),
                self.pick(1, 3),
                self.pick(1, 1 + dilated),
            )
            if not same and (taps - 1) * apart >= length:
                apart = 1
            reach = (taps - 1) * apart + 1
            outputs = -(-length // step) if same else (length - reach) // step + 1
            total = max((outputs - 1) * step + reach - length, 0) if same else 0
            size, stride, dilation = [*size, taps], [*stride, step], [*dilation, apart]
            before, count = [*before, total // 2], [*count, outputs]
        return Window(tuple(size), tuple(stride), tuple(dilation), tuple(before)), tuple(count)

    def taps(self, x: np.ndarray, window: Window, count: tuple[int, int], fill: float):
        """For each tap of the window: what every output pixel sees there."""
        margin = 20
        padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)), constant_values=fill)
        for row in range(window.size[0]):
            for column in range(window.size[1]):
                places = [
                    margin
                    + window.stride[axis] * np.arange(count[axis])
                    - window.before[axis]
                    + (row, column)[axis] * window.dilation[axis]
                    for axis in range(2)
                ]
                yield row, column, padded[np.ix_(*places)]

    def convolve(self, x, kernel, window, count, fill=0.0) -> np.ndarray:
        """The convolution in double precision."""
        total = np.zeros((*count, kernel.shape[-1]), np.float64)
        for row, column, seen in self.taps(x, window, count, fill):
            total += seen.astype(np.float64) @ kernel[row, column].astype(np.float64)
        return total

    def affine(self, tensor: int, size: float = 1.0) -> int:
        """A scale, a tenth of 1 / size, and a bias per channel."""
        value = self.values[tensor]
        scale = (self.rng.uniform(0.05, 0.2, value.shape[-1]) / max(size, 1e-3)).astype(np.float32)
        bias = self.normal(value.shape[-1])
        return self.add(
            Map, [tensor], value * scale + bias, expression="t * {0} + {1}", parameters=(scale, bias)
        )

    def binary(self, tensor: int) -> int:
        """A binary convolution of the signs, which may be pooled first."""
        value = self.values[tensor]
        near = np.abs(value) < 1e-5 * max(1.0, float(np.abs(value).max()))
        self.tie |= bool((near & (value != 0)).any())
        signs = self.add(Sign, [tensor], np.where(value >= 0, 1.0, -1.0), signs=True)
        for _ in range(self.pick(0, 1)):
            window, count = self.window(signs, dilated=False)
            seen = [part for _, _, part in self.taps(self.values[signs], window, count, -1.0)]
            signs = self.add(Pool, [signs], np.max(seen, axis=0), signs=True, window=window, largest=True)
        window, count = self.window(signs)
        outputs = self.channels(150)
        kernel = self.rng.choice([-1.0, 1.0], (*window.size, value.shape[-1], outputs)).astype(np.float32)
        ones = bool(self.rng.integers(2))
        result = self.convolve(self.values[signs], kernel, window, count, float(ones))
        raw = self.add(Convolution, [signs], result, window=window, kernel=kernel, ones=ones)
        return self.affine(raw)

    def kernel(self, *shape: int) -> np.ndarray:
        """A real kernel; every other one is 8-bit whole numbers."""
        if self.rng.integers(2):
            return self.normal(*shape)
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def real(self, tensor: int) -> int:
        """A real convolution, one of four with groups."""
        window, count = self.window(tensor)
        value = self.values[tensor]
        groups = 1 if self.pick(0, 3) else self.pick(1, 4)
        groups = groups if value.shape[-1] % groups == 0 else 1
        inputs, outputs = value.shape[-1] // groups, groups * self.pick(1, 40 // groups)
        if groups == 1:
            outputs = self.channels(40)
        kernel = self.kernel(*window.size, inputs, outputs)
        parts = [
            self.convolve(
                value[..., n * inputs : (n + 1) * inputs],
                kernel[..., n * outputs // groups : (n + 1) * outputs // groups],
                window,
                count,
            )
            for n in range(groups)
        ]
        result = np.concatenate(parts, axis=-1)
        raw = self.add(Convolution, [tensor], result, window=window, kernel=kernel, groups=groups)
        return self.affine(raw, float(np.abs(kernel.astype(np.float32)).mean()))

    def depthwise(self, tensor: int) -> int:
        """A depthwise convolution."""
        window, count = self.window(tensor)
        value = self.values[tensor]
        kernel = self.kernel(*window.size, value.shape[-1], self.pick(1, 2))
        total = np.zeros((*count, value.shape[-1] * kernel.shape[-1]))
        for row, column, seen in self.taps(value, window, count, 0.0):
            total += (seen[..., None] * kernel[row, column]).reshape(*count, -1)
        raw = self.add(Depthwise, [tensor], total, window=window, kernel=kernel)
        return self.affine(raw, float(np.abs(kernel.astype(np.float32)).mean()))

    def pool(self, tensor: int) -> int:
        """A pool of any window."""
        window, count = self.window(tensor, dilated=False)
        value, largest = self.values[tensor], bool(self.rng.integers(2))
        seen = [part for _, _, part in self.taps(value, window, count, -np.inf if largest else np.nan)]
        result = np.max(seen, axis=0) if largest else np.nanmean(np.asarray(seen, np.float64), axis=0)
        if not np.isfinite(result).all():  # a window that sees nothing of the map
            return self.affine(tensor)
        return self.add(Pool, [tensor], result, window=window, largest=largest)

    def map(self, tensor: int) -> int:
        """An activation."""
        value = self.values[tensor]
        slope, low, high = (
            self.rng.uniform(*ends, value.shape[-1]).astype(np.float32)
            for ends in ((0.0, 0.5), (-1.0, 0.0), (0.5, 1.0))
        )
        expression, result, parameters = {
            0: (PRELU, np.where(value >= 0, value, slope * value), (slope,)),
            1: (CLAMP, np.clip(value, low, high), (low, high)),
            2: (CLAMP, np.clip(value, -1, 1), (np.float32([-1]), np.float32([1]))),
            3: (AT_LEAST, np.maximum(value, low), (low,)),
            4: (RELU, np.maximum(value, 0), ()),
            5: (RELU6, np.clip(value, 0, 6), ()),
            6: ("fabsf(t)", np.abs(value), ()),
        }[self.pick(0, 6)]
        return self.add(Map, [tensor], result, expression=expression, parameters=parameters)

    def sum(self, tensor: int) -> int:
        """The sum, the difference or the product of two maps."""
        shape = self.network.shapes[tensor]
        others = [other for other in self.floats() if self.network.shapes[other] == shape]
        other = int(self.rng.choice(others))
        values, kind = (self.values[tensor], self.values[other]), self.pick(0, 2)
        result = (values[0] + values[1], values[0] - values[1], np.clip(values[0], -1, 1) * values[1])[kind]
        if kind == 2:
            tensor = self.add(
                Map, [tensor], np.clip(values[0], -1, 1), expression=CLAMP, parameters=np.float32([[-1], [1]])
            )
        sign = "+-*"[kind]
        expressions = {"expression": f"t {sign} {{u}}", "swapped": f"{{u}} {sign} t"}
        return self.add(Combine, [tensor, other], result, **expressions)

    def join(self, tensor: int) -> int:
        """A concatenation of channels."""
        shape = self.network.shapes[tensor]
        size = (shape.height, shape.width)
        others = [t for t in self.floats() if self.values[t].shape[:2] == size and self.values[t].size < 4000]
        inputs = [tensor, int(self.rng.choice(others or [tensor]))]
        return self.add(Concatenate, inputs, np.concatenate([self.values[t] for t in inputs], axis=2))

    def place(self, tensor: int) -> int:
        """Zeros around the map."""
        value = self.values[tensor]
        before = tuple(self.pick(0, 3) for _ in range(3))
        after = tuple(self.pick(0, 3) for _ in range(3))
        result = np.pad(value, list(zip(before, after, strict=True)))
        return self.add(Place, [tensor], result, before=before)


def with_one_runtime(texts: dict[str, str]) -> dict[str, str]:
    """The texts of programs by their prefixes, the functions that all of them share only in the first one.

    So a compiler reads these once, not once for every network, which is where nearly all of its time went.
    """
    pieces = "\n".join(runtime(piece, "net") for piece in PIECES)
    shared = sorted(set(re.findall(r"\b(?:net|NET)_(\w+)", pieces)) - {"AFTER"})
    prefixes = "|".join([*texts, *map(str.upper, texts)])
    names = re.compile(rf"\b({prefixes})_({'|'.join(shared)})\b")
    result = {}
    for name, text in texts.items():
        for piece in PIECES:
            text = text.replace(runtime(piece, name), "")
        text = names.sub(lambda match: f"{'NET' if match[1].isupper() else 'net'}_{match[2]}", text)
        text = f"#define {name}_meet net_meet\n{text}"  # what looks at intermediate values calls it
        result[name] = text if result else f"{pieces}\n{text}"
    return result


def differs(seed: int, command: list[str] | None = None) -> str | None:
    """What the program of a random network computes otherwise than NumPy; None where nothing."""
    return next(iter(problems([seed], command)[1]), None)


def problems(
    seeds: Sequence[int], command: list[str] | None = None, launcher: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """What the programs of random networks, compiled together, compute otherwise than NumPy.

    Networks in which rounding may decide a sign are left out; the first number says how many were compared.
    """
    networks = {seed: network for seed in seeds if not (network := Random(seed)).tie}
    if not networks:
        return 0, []
    programs = {f"net{seed}": compile_network(made.network) for seed, made in networks.items()}
    texts = {name: write_source(program, name, Labels()).text for name, program in programs.items()}
    texts = with_one_runtime(texts)
    images = [made.image[None] for made in networks.values()]
    jobs = [
        Job(program, texts[name], name, image)
        for (name, program), image in zip(programs.items(), images, strict=True)
    ]
    outcomes = run_several(jobs, command, launcher, trace=1)
    pairs = zip(networks.items(), outcomes, strict=True)
    wrong = [problem for (seed, made), outcome in pairs if (problem := compared(seed, made, outcome))]
    return len(networks), wrong


def compared(seed: int, made: Random, outcome: Outcome) -> str | None:
    """Where an outcome differs from the values of a network."""
    kept = {**outcome.values, made.network.outputs[0]: outcome.outputs[0]}
    for tensor, actual in kept.items():
        expected = made.values[tensor]
        limit = 1e-4 * max(1.0, float(np.abs(expected).max()))
        gap = float(np.abs(actual.reshape(expected.shape) - expected).max())
        if not gap <= limit:
            return f"network {seed}: tensor {tensor} differs by {gap:.3g}"
    for tensor, actual in outcome.signs.items():
        if (actual[0] != made.values[tensor]).any():
            return f"network {seed}: signs {tensor} differ"
    return None


def main() -> int:
    """Runs the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=50, help="networks compiled together")
    parser.add_argument("--command", type=shlex.split, help="the compiler with its flags, in quotes")
    parser.add_argument(
        "--launcher", type=shlex.split, default=[], help="what starts the program, e.g. an emulator"
    )
    arguments = parser.parse_args()
    wrong, count, seed = 0, 0, arguments.seed * 1_000_000
    while count < arguments.networks:
        seeds = range(seed, seed + min(arguments.batch, arguments.networks - count))
        seed = seeds.stop
        together, differing = problems(seeds, arguments.command, arguments.launcher)
        for problem in differing:
            print(problem, flush=True)
        count, wrong = count + together, wrong + len(differing)
        print(f"{count} networks compared, {wrong} differ", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
