"""C99 text of a program: constants, one function a step, the entry points."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from contextlib import AbstractContextManager
from importlib import resources

import numpy as np

from bnn_tf.export import operations as ops
from bnn_tf.export.c_text import Lines, c_type, comment, float_literal, string_literal, wrapped
from bnn_tf.export.operations import Shape, Tensor, Window
from bnn_tf.export.program import (
    STRIP,
    Border,
    Join,
    Pack,
    Program,
    Step,
    Store,
    binary_depth,
    block_filters,
    codebook_of,
    pack_filters,
    real_strips,
    strip_layout,
)

_VALUES, _SUMS = "values[c]", "(float)(taps - 2 * (int)differ[c])"
"""What a kernel has made of a pixel: floats, or in how many taps signs differ."""
_VECTOR_FORMS = {
    _VALUES: "net_values_at(values + c)",
    _SUMS: "net_sums_of(differ + c, taps)",
    ops.AFFINE: "net_plus(net_times(t, {0}), {1})",
    ops.BIAS: "net_plus(t, {0})",
    ops.SCALE: "net_times(t, {0})",
    ops.AT_LEAST: "net_at_least(t, {0})",
    ops.CLAMP: "net_at_most(net_at_least(t, {0}), {1})",
    ops.RELU: "net_at_least(t, net_values_of(0.0f))",
    ops.RELU6: "net_at_most(net_at_least(t, net_values_of(0.0f)), net_values_of(6.0f))",
    ops.PRELU: "net_prelu(t, {0})",
    "t + {u}": "net_plus(t, {u})",
    "{u} + t": "net_plus(t, {u})",
    "t * {u}": "net_times(t, {u})",
    "{u} * t": "net_times(t, {u})",
}
"""Expressions of one value, and the same for those of many channels."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a program knows about its images and classes.

    Attributes:
        classes: Names of the classes; their numbers where there are none.
        mean: Mean of the pixels, between 0 and 1, one value or one per channel.
        std: Deviation of the pixels. The network sees `(pixel / 255 - mean) / std`.
    """

    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclasses.dataclass(frozen=True)
class Source:
    """The text of a program.

    Attributes:
        text: The C file.
        header: The declarations.
        flash: Bytes of its constants.
        expanded: Bytes of memory for filters that are expanded at the start.
    """

    text: str
    header: str
    flash: int
    expanded: int = 0


def write_source(program: Program, name: str, labels: Labels, subbit: bool = False) -> Source:
    """The C file of a program whose functions begin with `name`.

    `subbit` stores binary 3×3 filters of few patterns as indices into a codebook where that is smaller.
    """
    return _Writer(program, name, labels, subbit).source()


def runtime(piece: str, name: str) -> str:
    """A file of C functions that programs are made of, with the prefix `name`."""
    return _prefixed(_runtime(piece), name)


def _runtime(piece: str) -> str:
    return resources.files("bnn_tf.export").joinpath(f"runtime/{piece}.c").read_text()


def _prefixed(text: str, name: str) -> str:
    prefixes = {"net": name, "NET": name.upper()}
    return re.sub(r"\b(net|NET)_(?=\w)", lambda match: f"{prefixes[match[1]]}_", text)


class _Writer:
    """Writes a program. Its names begin with `net_` and `NET_` until `_named` gives them their own prefix."""

    def __init__(self, program: Program, name: str, labels: Labels, subbit: bool) -> None:
        self._program, self._name, self._labels, self._subbit = program, name, labels, subbit
        self._expansions: list[str] = []
        self._expanded = 0
        self._shapes = program.network.shapes
        self._constants: dict[str, str] = {}
        self._declared: list[str] = []
        self._flash = 0
        self._calls: list[str] = []
        self._pieces = {"common", "threads"}
        outputs = range(1, len(program.network.outputs))
        self._outputs = ["logits", *(f"output{number}" for number in outputs)]
        self._arguments = ", ".join(f"float *{output}" for output in self._outputs)

    def source(self) -> Source:
        steps = [self._step(number, step) for number, step in enumerate(self._program.steps)]
        entry = self._entry()
        common, *pieces = (_runtime(piece) for piece in PIECES if piece in self._pieces)
        model, name = comment(self._program.network.name), self._name
        text = [
            f"/* {model} as a C program, written by bnn-tf */",
            f"/* {self._flash} bytes of constants, {self._program.arena} bytes of memory. */",
            *self._named(common, *self._declarations(), "", *pieces, self._arena(), *self._declared, ""),
            *steps,
            *entry,
            *self._named(self._other_outputs(), _runtime("main")),
        ]
        header = [
            f"/* {model} as a C program, see {name}.c. Written by bnn-tf. */",
            f"#ifndef {name.upper()}_H\n#define {name.upper()}_H\n#include <stdint.h>\n",
            *self._named(*self._declarations()),
            "#endif\n",
        ]
        return Source("\n".join(text), "\n".join(header), self._flash, self._expanded)

    def _named(self, *texts: str) -> list[str]:
        """Texts in which names begin with `net_` or `NET_`, with the program's own prefix."""
        return [_prefixed(text, self._name) for text in texts]

    def _declarations(self) -> list[str]:
        return [
            self._defines(),
            '#ifdef __cplusplus\nextern "C" {\n#endif',
            "/* Runs the network on a preprocessed image, rows of pixels of channels. Returns 0. */",
            f"int net_run(const float *image, {self._arguments});",
            "/* The same on pixels of 0 to 255, which it preprocesses. */",
            f"int net_run_u8(const uint8_t *pixels, {self._arguments});",
            "extern const char *const net_class_names[];",
            "extern const float net_mean[], net_std[];",
            "#ifdef __cplusplus\n}\n#endif",
        ]

    def _defines(self) -> str:
        network = self._program.network
        shape, outputs = self._shapes[network.input], [self._shapes[tensor] for tensor in network.outputs]
        sizes = [output.values for output in outputs]
        numbers = {
            "HEIGHT": shape.height,
            "WIDTH": shape.width,
            "CHANNELS": shape.channels,
            "CLASSES": sizes[0],
            "LABELS": outputs[0].channels,
        }
        numbers |= {f"OUTPUT{number}_SIZE": size for number, size in enumerate(sizes[1:], 1)}
        guarded = [f"#ifndef NET_{key}\n#define NET_{key} {value}\n#endif" for key, value in numbers.items()]
        return "\n".join(guarded) + "\n"

    def _other_outputs(self) -> str:
        """Where `main` has the outputs written that it does not print."""
        others = self._outputs[1:]
        arrays = [f"static float net_{other}[NET_{other.upper()}_SIZE];" for other in others]
        passed = "".join(f", net_{other}" for other in others)
        return "\n".join(["#ifdef NET_MAIN", *arrays, f"#define NET_OTHERS {passed}".rstrip(), "#endif"])

    def _arena(self) -> str:
        return (
            "/* All intermediate values: one inference at a time. */\n"
            f"static float net_arena[{max(self._program.arena // 4, 1)}];\n"
            "#if NET_THREADS > 1\n"
            f"static float net_scratches[NET_THREADS - 1][{max(self._program.scratch_size // 4, 1)}];\n"
            "#define NET_SCRATCH(offset) (part == 0 ? net_arena + (offset) : net_scratches[part - 1])\n"
            "#else\n"
            "#define NET_SCRATCH(offset) (net_arena + (offset))\n"
            "#endif\n"
        )

    # Constants

    def _constant(self, values: np.ndarray, kind: str) -> str:
        """Name of a constant array; equal ones are written once."""
        key = hashlib.sha256(kind.encode() + values.tobytes()).hexdigest()
        if key not in self._constants:
            name = self._constants[key] = f"net_c{len(self._constants)}"
            literal = float_literal if kind == "float" else str
            text = wrapped([literal(value) for value in values.reshape(-1).tolist()])
            self._declared.append(f"static const {kind} {name}[{values.size}] = {{\n{text}\n}};")
            self._flash += values.nbytes
        return self._constants[key]

    def _weights(self, kernel: np.ndarray) -> str:
        """Name of the values of a real kernel, floats or 8-bit whole numbers."""
        kind = c_type(kernel)
        return self._constant(kernel if kind == "int8_t" else kernel.astype(np.float32), kind)

    def _filters(self, kernel: np.ndarray) -> str:
        """Name of the packed filters of a binary convolution."""
        packed = pack_filters(kernel)
        coded = codebook_of(kernel) if self._subbit and kernel.shape[:2] == (3, 3) else None
        if coded is None or coded[0].nbytes + coded[2].nbytes >= packed.nbytes:
            return self._constant(packed, "uint8_t")
        indices, bits, patterns = coded
        self._pieces.add("expand")
        name = f"net_f{len(self._expansions)}"
        inputs, outputs = kernel.shape[2:]
        codes = f"{self._constant(indices, 'uint8_t')}, {bits}, {self._constant(patterns, 'uint16_t')}"
        self._declared.append(f"static uint8_t {name}[{packed.nbytes}];")
        self._expansions.append(f"        net_expand({codes}, {inputs}, {outputs}, {name});")
        self._expanded += packed.nbytes
        return name

    # Where tensors lie

    def _pointer(self, tensor: Tensor) -> str:
        """Expression for the first element of a stored tensor, without its border."""
        root = self._program.root(tensor)
        network = self._program.network
        if root == network.input:
            return "image"
        for number, output in enumerate(network.outputs):
            if self._program.root(output) == root:
                return self._outputs[number]
        offset = self._program.offsets[root]
        if self._shapes[root].signs:
            return f"(const uint8_t *)(const void *)net_arena + {offset}"
        return f"net_arena + {offset // 4}"

    def _target(self, tensor: Tensor) -> str:
        return self._pointer(tensor).replace("const ", "")

    def _border(self, tensor: Tensor) -> Border:
        return self._program.borders.get(self._program.root(tensor), Border())

    def _pixel(self, tensor: Tensor, at: str = "at") -> str:
        """Offset of pixel `at` of a tensor of signs, in bytes."""
        shape, border = self._shapes[tensor], self._border(tensor)
        if border == Border():
            return f"({at}) * {shape.pixel_bytes}"
        width = shape.width + border.left + border.right
        row = f"({at}) / {shape.width} + {border.top}"
        return f"(({row}) * {width} + ({at}) % {shape.width} + {border.left}) * {shape.pixel_bytes}"

    # Steps

    def _step(self, number: int, step: Step) -> str:
        pointers = {self._pointer(tensor) for tensor in [*step.reads, *step.writes]}
        arguments = ["const float *image"] if "image" in pointers else []
        arguments += [f"float *{output}" for output in self._outputs if output in pointers]
        body = Lines()
        bordered = [tensor for tensor in step.writes if self._border(tensor) != Border()]
        if bordered:
            with body.block("if (part == 0)"):
                for tensor in bordered:
                    body.add(f"memset({self._target(tensor)}, 0, {self._program.size(tensor)});")
            body.add("net_meet();")
        work = Lines()
        self._kernel(work, step)
        offset = self._program.scratch.get(number)
        if any("scratch" in line for line in work.lines):
            body.add(f"float *const scratch = NET_SCRATCH({(offset or 0) // 4});")
        body.lines += work.lines
        names = ", ".join(dict.fromkeys(step.names))
        head = f"static void net_step{number}({', '.join(['int part', *arguments])})"
        call = ", ".join(["part", *(argument.split("*")[-1] for argument in arguments)])
        self._calls.append(f"    net_step{number}({call});")
        self._calls.append(f"    net_meet();\n    NET_AFTER({number})")
        (code,) = self._named(f"{head}\n{{\n{body}\n}}\n")
        return f"/* {comment(names)} */\n{code}"

    def _kernel(self, body: Lines, step: Step) -> None:
        kernel = step.kernel
        if kernel is None:
            body.add(f"const float *const source = {self._pointer(step.source)};")
            with body.block(self._shared("pixel", step.shape.pixels)):
                body.add("const size_t at = (size_t)pixel;")
                body.add(f"const float *const values = source + at * {step.shape.channels};")
                self._tail(body, step, _VALUES)
        elif isinstance(kernel, ops.Convolution):
            self._convolution(body, step, kernel)
        elif isinstance(kernel, ops.Depthwise | ops.Pool):
            self._windowed(body, step, kernel)
        else:
            self._moved(body, step, kernel)

    def _regions(
        self, kernel: ops.Operation, window: Window, source: Tensor, output: Shape, full: bool
    ) -> str:
        shape = self._shapes[source]
        axes = [
            _classes(window, axis, count, size, full)
            for axis, (count, size) in enumerate(((output.height, shape.height), (output.width, shape.width)))
        ]
        rows = [
            f"{{{y}, {x}, {height}, {width}, {row}, {rows}, {column}, {columns}}}"
            for y, height, row, rows in axes[0]
            for x, width, column, columns in axes[1]
        ]
        return f"static const net_region regions[{len(rows)}] = {{\n{wrapped(rows, 8)}\n    }};"

    def _open_window(
        self,
        body: Lines,
        kernel: ops.Convolution | ops.Depthwise | ops.Pool,
        output: Shape,
        full: bool,
    ) -> None:
        """Declares the regions and the geometry of a window over the input of `kernel`."""
        self._pieces.add("strip")
        window, source = kernel.window, kernel.inputs[0]
        shape, border = self._shapes[source], self._border(source)
        widths = (output.width, shape.width + border.left + border.right)
        before = (window.before[0] - border.top, window.before[1] - border.left)
        numbers = (*widths, *window.stride, *window.dilation, *before, shape.pixel_size)
        body.add(self._regions(kernel, window, source, output, full))
        body.add(f"static const net_geometry geometry = {{{', '.join(map(str, numbers))}}};")
        body.add(f"const {shape.c_type} *const source = {self._pointer(source)};")

    def _convolution(self, body: Lines, step: Step, kernel: ops.Convolution) -> None:
        source, output = self._shapes[kernel.inputs[0]], step.shape
        self._open_window(body, kernel, output, kernel.ones)
        channels = output.channels
        levels = kernel.kernel.dtype == np.int8
        stride = -(-channels // 32) * 32 if source.signs else -(-channels // 16) * 16
        if kernel.groups == 1:
            self._pieces.add("window")
        if source.signs:
            self._pieces.add("counts")
            filters, depth = self._filters(kernel.kernel), binary_depth(kernel.kernel)
            counts, codes, _ = strip_layout(kernel, output, True)
            body.add(f"uint16_t *const counts = (uint16_t *)(void *)(scratch + {counts // 4});")
        elif kernel.groups == 1:
            self._pieces |= {"vectors", "dots", "levels" if levels else "floats"}
            filters = self._weights(block_filters(kernel.kernel))
            depth = int(np.prod(kernel.kernel.shape[:3]))
        else:
            filters, depth = self._weights(kernel.kernel), 0
        with body.block("for (size_t r = 0; r < sizeof regions / sizeof regions[0]; ++r)"):
            body.add("const int pixels = (int)regions[r].height * (int)regions[r].width;")
            if source.signs:
                body.add(
                    f"const int taps = (int)regions[r].rows * (int)regions[r].columns * {source.channels};"
                )
            if kernel.groups == 1:
                size = f"{kernel.window.size[1]}, {source.pixel_size}"
                body.add(f"const net_window window = net_window_of(&regions[r], &geometry, {size});")
            strip = str(STRIP)
            if kernel.groups == 1 and not source.signs:
                strips = real_strips(kernel, output)
                strip = "NET_DOTS" if strips == 1 else f"({strips} * NET_DOTS)"
            with self._strips(body, strip):
                call = f"source, from, count, &window, {filters}, {depth}, {channels}"
                if source.signs:
                    body.add(f"net_count({call}, counts, {stride}, scratch + {codes // 4});")
                elif kernel.groups == 1:
                    dot = "net_dot_levels" if levels else "net_dot"
                    body.add(f"{dot}({call}, scratch, {stride});")
                with body.block("for (int j = 0; j < count; ++j)"):
                    body.add("const size_t at = place[j];")
                    if source.signs:
                        body.add(f"const uint16_t *const differ = counts + j * {stride};")
                        self._tail(body, step, _SUMS)
                        return
                    if kernel.groups == 1:
                        body.add(f"float *const values = scratch + j * {stride};")
                    else:
                        body.add("float *const values = scratch;")
                        self._grouped(body, kernel, source.channels, filters)
                    self._tail(body, step, _VALUES, "values")

    def _grouped(self, body: Lines, kernel: ops.Convolution, channels: int, filters: str) -> None:
        height, width, depth, outputs = kernel.kernel.shape
        with body.block(self._channels(outputs)):
            body.add("float sum = 0.0f;")
            with (
                body.block("for (int row = 0; row < regions[r].rows; ++row)"),
                body.block("for (int column = 0; column < regions[r].columns; ++column)"),
            ):
                rows, columns = kernel.window.dilation
                body.add(f"const int pixel = row * {rows} * geometry.in_width + column * {columns};")
                body.add(f"const int tap = (regions[r].row + row) * {width} + regions[r].column + column;")
                group = f"c / {outputs // kernel.groups} * {depth}"
                body.add(f"const float *const x = source + from[j] + pixel * {channels} + {group};")
                body.add(f"const {c_type(kernel.kernel)} *const f = {filters} + tap * {depth * outputs} + c;")
                body.add(f"for (int i = 0; i < {depth}; ++i) {{ sum += x[i] * (float)f[i * {outputs}]; }}")
            body.add("values[c] = sum;")

    def _windowed(self, body: Lines, step: Step, kernel: ops.Depthwise | ops.Pool) -> None:
        source = self._shapes[kernel.inputs[0]]
        output = self._shapes[kernel.output]
        self._open_window(body, kernel, output, False)
        dilation = kernel.window.dilation
        kind, pixel, largest = (
            source.c_type,
            source.pixel_size,
            isinstance(kernel, ops.Pool) and kernel.largest,
        )
        place, first = "scratch", f"memset(values, 0, {4 * output.channels});"
        if source.signs:
            body.add(f"uint8_t *const target = {self._target(kernel.output)};")
            place, first = f"target + {self._pixel(kernel.output)}", f"memset(values, 255, {pixel});"
        elif largest:
            first = f"memcpy(values, source + from[j], {4 * pixel});"
        weights = self._weights(kernel.kernel) if isinstance(kernel, ops.Depthwise) else ""
        with body.block("for (size_t r = 0; r < sizeof regions / sizeof regions[0]; ++r)"):
            body.add("const net_region *const region = &regions[r];")
            body.add("const int pixels = (int)region->height * (int)region->width;")
            body.add("const int rows = region->rows, columns = region->columns;")
            with self._strips(body, STRIP), body.block("for (int j = 0; j < count; ++j)"):
                body.add("const size_t at = place[j];")
                body.add(f"{kind} *const values = {place};")
                body.add(first)
                if isinstance(kernel, ops.Pool) and largest and not source.signs:
                    self._largest(body, kernel, pixel)
                else:
                    with (
                        body.block("for (int row = 0; row < rows; ++row)"),
                        body.block("for (int column = 0; column < columns; ++column)"),
                    ):
                        offset = f"row * {dilation[0]} * geometry.in_width + column * {dilation[1]}"
                        body.add(f"const {kind} *const x = source + from[j] + ({offset}) * {pixel};")
                        if isinstance(kernel, ops.Depthwise):
                            width, multiplier = kernel.kernel.shape[1], kernel.kernel.shape[3]
                            tap = f"(region->row + row) * {width} + region->column + column"
                            body.add(f"const int tap = {tap};")
                            start = f"{weights} + tap * {output.channels}"
                            body.add(f"const {c_type(kernel.kernel)} *const f = {start};")
                            index = "c" if multiplier == 1 else f"c / {multiplier}"
                            action = f"values[c] += x[{index}] * (float)f[c];"
                        elif source.signs:
                            action = "values[c] = (uint8_t)(values[c] & x[c]);"
                        else:
                            action = "values[c] += x[c];"
                        limit = pixel if source.signs else output.channels
                        body.add(f"{self._channels(limit)} {{ {action} }}")
                if not source.signs:
                    mean = isinstance(kernel, ops.Pool) and not largest
                    value = "values[c] / (float)(rows * columns)" if mean else _VALUES
                    self._tail(body, step, value, "values")

    def _largest(self, body: Lines, kernel: ops.Pool, channels: int) -> None:
        """The largest values of a window; those of a whole row of it are compared in registers."""
        width, (rows, columns) = kernel.window.size[1], kernel.window.dilation
        with body.block("for (int row = 0; row < rows; ++row)"):
            start = f"source + from[j] + row * {rows} * geometry.in_width * {channels}"
            body.add(f"const float *const x = {start};")
            step = columns * channels
            if 1 < width <= 4:
                taps = [f"x[{tap * step} + c]" if tap else "x[c]" for tap in range(width)]
                actions = " ".join(f"t = {tap} > t ? {tap} : t;" for tap in taps)
                with body.block(f"if (columns == {width})"):
                    loop = self._channels(channels)
                    body.add(f"{loop} {{ float t = values[c]; {actions} values[c] = t; }}")
                    body.add("continue;")
            with body.block("for (int column = 0; column < columns; ++column)"):
                body.add(f"const float *const y = x + column * {step};")
                action = "values[c] = y[c] > values[c] ? y[c] : values[c];"
                body.add(f"{self._channels(channels)} {{ {action} }}")

    def _moved(self, body: Lines, step: Step, kernel: ops.Operation) -> None:
        """Kernels that read the values of a pixel from somewhere else."""
        shape, output = self._shapes[kernel.inputs[0]], step.shape
        if isinstance(kernel, ops.Values):
            body.add(f"const uint8_t *const source = {self._pointer(kernel.inputs[0])};")
        else:
            for number, tensor in enumerate(kernel.inputs):
                name = "source" if number == 0 else f"source{number}"
                body.add(f"const float *const {name} = {self._pointer(tensor)};")
        with (
            body.block(self._shared("y", output.height)),
            body.block(f"for (int x = 0; x < {output.width}; ++x)"),
        ):
            body.add(f"const size_t at = (size_t)(y * {output.width} + x);")
            if isinstance(kernel, ops.Values):
                body.add("float *const values = scratch;")
                body.add(f"const uint8_t *const bits = source + {self._pixel(kernel.inputs[0])};")
                body.add(
                    f"{self._channels(output.channels)} "
                    "{ values[c] = ((bits[c >> 3] >> (c & 7)) & 1) != 0 ? -1.0f : 1.0f; }"
                )
            elif isinstance(kernel, ops.Softmax):
                self._pieces.add("softmax")
                body.add("float *const values = scratch;")
                body.add(f"net_softmax(source + at * {shape.channels}, values, {shape.channels});")
            elif isinstance(kernel, ops.Flip):
                body.add(
                    f"const float *const values = source + (({shape.height - 1} - y) * {shape.width} + "
                    f"{shape.width - 1} - x) * {shape.channels};"
                )
            elif isinstance(kernel, ops.Place):
                self._placed(body, kernel, shape, output)
            elif isinstance(kernel, ops.Concatenate):
                self._concatenated(body, kernel, output)
            elif isinstance(kernel, ops.Upsample):
                self._upsampled(body, kernel, shape)
            else:
                raise AssertionError(type(kernel).__name__)
            self._tail(
                body,
                step,
                _VALUES,
                "values" if isinstance(kernel, ops.Values | ops.Softmax) else "scratch",
            )

    def _placed(self, body: Lines, kernel: ops.Place, shape: Shape, output: Shape) -> None:
        y, x, c = kernel.before
        first, last = max(c, 0), min(c + shape.channels, output.channels)
        body.add("float *const values = scratch;")
        body.add(f"const int row = y - ({y}), column = x - ({x});")
        body.add(f"{self._channels(output.channels)} {{ values[c] = {float_literal(kernel.value)}; }}")
        inside = f"row >= 0 && row < {shape.height} && column >= 0 && column < {shape.width}"
        with body.block(f"if ({inside})"):
            start = f"(row * {shape.width} + column) * {shape.channels} + {first - c}"
            body.add(f"memcpy(values + {first}, source + {start}, {4 * (last - first)});")

    def _concatenated(self, body: Lines, kernel: ops.Concatenate, output: Shape) -> None:
        names = ["source" if number == 0 else f"source{number}" for number in range(len(kernel.inputs))]
        shapes = [self._shapes[tensor] for tensor in kernel.inputs]
        if kernel.axis == 2:
            body.add("float *const values = scratch;")
            start = 0
            for name, shape in zip(names, shapes, strict=True):
                body.add(f"memcpy(values + {start}, {name} + at * {shape.channels}, {4 * shape.channels});")
                start += shape.channels
            return
        position = "yx"[kernel.axis]
        expression, start = "", 0
        for name, shape in zip(names, shapes, strict=True):
            size = (shape.height, shape.width)[kernel.axis]
            shifted = f"({position} - {start})" if start else position
            row, column = (shifted, "x") if kernel.axis == 0 else ("y", shifted)
            start += size
            place = f"{name} + ({row} * {shape.width} + {column}) * {shape.channels}"
            last = name == names[-1]
            expression += place if last else f"{position} < {start} ? {place} : "
        body.add(f"const float *const values = {expression};")

    def _upsampled(self, body: Lines, kernel: ops.Upsample, shape: Shape) -> None:
        rows, columns = kernel.factor
        if not kernel.bilinear:
            pixel = f"(y / {rows} * {shape.width} + x / {columns}) * {shape.channels}"
            body.add(f"const float *const values = source + {pixel};")
            return
        depth = shape.channels
        body.add("float *const values = scratch;")
        for axis, name, size, factor in (
            ("y", "row", shape.height, rows),
            ("x", "column", shape.width, columns),
        ):
            body.add(f"const float {name} = ((float){axis} + 0.5f) / {float_literal(float(factor))} - 0.5f;")
            body.add(f"const int {name}0 = {name} > 0.0f ? (int){name} : 0;")
            body.add(
                f"const int {name}1 = {name} < 0.0f ? 0 : ({name}0 + 1 < {size} ? {name}0 + 1 : {size - 1});"
            )
            body.add(f"const float {name}_part = {name} - floorf({name});")
        for number, (row, column) in enumerate(
            (("row0", "column0"), ("row0", "column1"), ("row1", "column0"), ("row1", "column1"))
        ):
            body.add(f"const float *const p{number} = source + ({row} * {shape.width} + {column}) * {depth};")
        with body.block(self._channels(shape.channels)):
            body.add("const float top = p0[c] + (p1[c] - p0[c]) * column_part;")
            body.add("const float bottom = p2[c] + (p3[c] - p2[c]) * column_part;")
            body.add("values[c] = top + (bottom - top) * row_part;")

    def _strips(self, body: Lines, strip: int | str) -> AbstractContextManager[None]:
        """A loop over what thread `part` does of a region, `count` pixels of a strip at a time."""
        first, last = (f"net_share(pixels, {strip}, {part})" for part in ("part", "part + 1"))
        body.add(f"net_walk walk = net_walk_from(&regions[r], &geometry, {first});")
        return body.block(
            f"for (int left = {last} - {first}; left > 0; left -= {strip})",
            f"size_t place[{strip}], from[{strip}];",
            f"const int count = net_strip(&walk, left, {strip}, place, from);",
        )

    def _shared(self, index: str, count: int | str) -> str:
        """The head of a loop over what thread `part` does of `count` pixels, or rows of them."""
        first, last = (f"net_share({count}, 1, {part})" for part in ("part", "part + 1"))
        return f"for (int {index} = {first}, last = {last}; {index} < last; ++{index})"

    def _channels(self, count: int) -> str:
        """The head of a loop over channels `c`, for vector instructions."""
        return f"NET_VECTORS for (int c = 0; c < {count}; ++c)"

    # What happens to the values of a pixel

    def _tail(self, body: Lines, step: Step, value: str, scratch: str = "scratch") -> None:
        """One loop over the channels up to each packing of signs; only one where all is done in vectors."""
        channels = step.shape.channels
        expressions = [part.expression for part in step.tail if isinstance(part, ops.Map | Join)]
        if channels % 16 == 0 and all(text in _VECTOR_FORMS for text in [value, *expressions]):
            self._vector_tail(body, step, value)
            return
        restrict = "NET_RESTRICT"
        segments: list[list[ops.Map | Join | Store]] = [[]]
        packs: list[Tensor] = []
        for part in step.tail:
            if isinstance(part, Pack):
                packs.append(part.tensor)
                segments.append([])
            else:
                segments[-1].append(part)
        stored: dict[Tensor, str] = {}
        current = value
        for number, segment in enumerate(segments):
            packed = packs[number] if number < len(packs) else None
            if packed is None and not segment:
                break
            loop = Lines(body.depth + 1)
            loop.add(f"float t = {current};")
            buffer = ""
            for part in segment:
                if isinstance(part, Store):
                    buffer = stored[part.tensor] = f"out{len(stored)}"
                    pointer = f"{self._target(part.tensor)} + at * {channels}"
                    body.add(f"float *{restrict} const {buffer} = {pointer};")
                    loop.add(f"{buffer}[c] = t;")
                    continue
                buffer = ""
                if isinstance(part, ops.Map):
                    loop.add(f"t = {self._applied(part, channels)};")
                else:
                    loop.add(f"t = {part.expression.format(u=self._operand(body, step, part, stored))};")
            if packed is not None and not buffer:
                plain = current.endswith("[c]") and len(loop.lines) == 1
                buffer = current[:-3] if plain else scratch
                if plain:
                    loop = Lines()
                else:
                    loop.add(f"{scratch}[c] = t;")
            if loop.lines:
                with body.block(self._channels(channels)):
                    body.lines += loop.lines
            if packed is not None:
                self._pieces.add("pack")
                bits = f"({self._target(packed)}) + {self._pixel(packed)}"
                body.add(f"net_pack({buffer}, {channels}, {bits});")
                current = f"{buffer}[c]"

    def _vector_tail(self, body: Lines, step: Step, value: str) -> None:
        """The same with the functions of vectors of channels."""
        self._pieces |= {"vectors", "values"}
        channels, packed = step.shape.channels, 0
        stored: dict[Tensor, str] = {}
        loop = Lines(body.depth + 1)
        loop.add(f"net_values t = {_VECTOR_FORMS[value]};")
        for part in step.tail:
            if isinstance(part, Store):
                name = stored[part.tensor] = f"out{len(stored)}"
                body.add(f"float *const {name} = {self._target(part.tensor)} + at * {channels};")
                loop.add(f"net_store({name} + c, t);")
            elif isinstance(part, Pack):
                target = f"{self._target(part.tensor)} + {self._pixel(part.tensor)}"
                body.add(f"uint8_t *const bits{packed} = {target};")
                loop.add(f"net_signs(bits{packed} + c / 8, t);")
                packed += 1
            elif isinstance(part, ops.Map):
                loop.add(f"t = {self._applied(part, channels, vectors=True)};")
            else:
                other = self._operand(body, step, part, stored)
                form = _VECTOR_FORMS[part.expression]
                loop.add(f"t = {form.format(u=_vector(other))};")
        with body.block(f"for (int c = 0; c < {channels}; c += NET_VALUES)"):
            body.lines += loop.lines

    def _applied(self, part: ops.Map, channels: int, vectors: bool = False) -> str:
        names = []
        for values in part.parameters:
            if values.size == 1:
                names.append(float_literal(float(values[0])))
            elif values.size == channels:
                names.append(f"{self._constant(values, 'float')}[c]")
            else:
                names.append(f"{self._constant(values, 'float')}[at * {channels} + (size_t)c]")
        if vectors:
            form = _VECTOR_FORMS[part.expression]
            return form.format(*(_vector(name) for name in names))
        return part.expression.format(*names)

    def _operand(self, body: Lines, step: Step, part: Join, stored: dict[Tensor, str]) -> str:
        """The other operand of a sum; one that the sum is written over is read through the same pointer."""
        shape, channels = self._shapes[part.other], step.shape.channels
        pointer = self._pointer(part.other)
        target = next((p.tensor for p in step.tail if isinstance(p, Store)), None)
        at = f" + at * {channels}" if shape.pixels > 1 or step.shape.pixels == 1 else ""
        name = f"other{len([line for line in body.lines if ' other' in line])}"
        shared = target is not None and target not in stored and self._target(target) == pointer
        if shared:
            body.add(f"const float *const {name} = {pointer}{at};")
        else:
            body.add(f"const float *NET_RESTRICT const {name} = {pointer}{at};")
        return f"{name}[c]"

    # Entry points

    def _entry(self) -> list[str]:
        network = self._program.network
        shape = self._shapes[network.input]
        numbers = range(self._shapes[network.outputs[0]].channels)
        classes = self._labels.classes or [str(number) for number in numbers]
        mean, std = (
            ", ".join(map(float_literal, values * shape.channels if len(values) == 1 else values))
            for values in (self._labels.mean, self._labels.std)
        )
        names = ",\n".join(f"    {string_literal(label)}" for label in classes)
        return [
            f"const char *const {self._name}_class_names[] = {{\n{names}\n}};",
            *self._named(
                f"const float net_mean[] = {{{mean}}};",
                f"const float net_std[] = {{{std}}};",
                "",
                *self._run(),
                f"int net_run_u8(const uint8_t *pixels, {self._arguments})\n{{",
                f"    float *const image = net_arena + {self._program.image // 4};",
                f"    for (int i = 0; i < {shape.values}; i += {shape.channels}) {{",
                f"        for (int c = 0; c < {shape.channels}; ++c) {{",
                "            image[i + c] = ((float)pixels[i + c] / 255.0f - net_mean[c]) / net_std[c];",
                "        }\n    }",
                f"    return net_run(image, {', '.join(self._outputs)});\n}}\n",
            ),
        ]

    def _run(self) -> list[str]:
        """The function that computes the steps, alone or with threads of its own."""
        outputs = self._outputs
        arguments, passed = f"const float *image, {self._arguments}", ", ".join(["image", *outputs])
        fields = ", ".join(f"job->{name}" for name in ("part", "image", *outputs))
        return [
            f"static void net_work(int part, {arguments})\n{{",
            *self._calls,
            "}\n",
            "#if NET_THREADS > 1",
            "typedef struct {\n    int part;\n    const float *image;",
            *(f"    float *{output};" for output in outputs),
            "} net_job;\n",
            "static void *net_thread(void *argument)\n{",
            "    const net_job *const job = (const net_job *)argument;",
            "    net_wait_for(&net_ready, 0u);",
            f"    net_work({fields});",
            "    return NULL;\n}\n#endif\n",
            f"int net_run({arguments})\n{{",
            *self._start(),
            "#if NET_THREADS > 1",
            "    pthread_t threads[NET_THREADS - 1];",
            "    net_job jobs[NET_THREADS - 1];",
            "    __atomic_store_n(&net_ready, 0u, __ATOMIC_RELAXED);",
            "    for (net_parts = 1; net_parts < NET_THREADS; ++net_parts) {",
            "        net_job *const job = &jobs[net_parts - 1];",
            "        job->part = net_parts;",
            *(f"        job->{name} = {name};" for name in ("image", *outputs)),
            "        if (pthread_create(&threads[net_parts - 1], NULL, net_thread, job) != 0) {",
            "            break; /* fewer threads do */",
            "        }",
            "    }",
            "    __atomic_store_n(&net_ready, 1u, __ATOMIC_RELEASE);",
            f"    net_work(0, {passed});",
            "    for (int part = 1; part < net_parts; ++part) {",
            "        pthread_join(threads[part - 1], NULL);",
            "    }",
            "#else",
            f"    net_work(0, {passed});",
            "#endif",
            "    return 0;\n}\n",
        ]

    def _start(self) -> list[str]:
        """What the first run does: it expands the filters that are stored as indices."""
        if not self._expansions:
            return []
        return [
            "    static int started;",
            "    if (!started) {",
            *self._expansions,
            "        started = 1;",
            "    }",
        ]


PIECES = (
    *("common", "threads", "strip", "window", "expand", "vectors", "values"),
    *("counts", "dots", "floats", "levels", "pack", "softmax"),
)
"""The files of functions, in the order in which they stand in a program that needs them."""


def _classes(window: Window, axis: int, count: int, size: int, full: bool) -> list[tuple[int, int, int, int]]:
    """Runs of output positions that see the same taps: first position, length, first tap, taps."""
    runs: list[tuple[int, int, int, int]] = []
    for position in range(count):
        taps = (0, window.size[axis]) if full else window.taps(axis, position, size)
        if runs and runs[-1][2:] == taps:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, *taps)
        else:
            runs.append((position, 1, *taps))
    return runs


def _vector(value: str) -> str:
    """The vector of channels for which an expression of one channel stands."""
    return f"net_values_at(&{value})" if value.endswith("]") else f"net_values_of({value})"
