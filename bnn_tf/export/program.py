"""The program: operations fused into steps, and where in memory each tensor lies.

A step runs over the pixels of its output. Its kernel (a convolution, a pool, …, or just a read) makes the
channels of one pixel, on which the rest of the step works while they are in registers and the nearest cache:
scales, sums, activations, the store of a float map, the packing of signs for the next binary convolution.
So a tensor of the trunk is written and read once.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bnn_tf.export import operations as ops
from bnn_tf.export.operations import Network, Shape, Tensor

ALIGNMENT = 64
STRIP = 4
"""Output pixels that a binary convolution computes at once."""
REAL_STRIP = 6
"""Output pixels that a real convolution computes at once, at most."""
_NEAREST_CACHE = 2**15
"""Bytes of the nearest cache of common processors."""


@dataclasses.dataclass(frozen=True)
class Join:
    """A function of the values at hand and those of another tensor at the same pixel; see `Combine`."""

    other: Tensor
    expression: str


@dataclasses.dataclass(frozen=True)
class Store:
    """Writes the values at hand."""

    tensor: Tensor


@dataclasses.dataclass(frozen=True)
class Pack:
    """Writes the signs of the values at hand."""

    tensor: Tensor


@dataclasses.dataclass(eq=False)
class Step:
    """A fused step.

    Attributes:
        kernel: Makes the values of a pixel; None where they are read from `source` as they are.
        source: The first tensor it reads.
        tail: What happens to the values, in order; a `Map` is a function of each of them.
        shape: Shape of its output.
        names: The layers that it computes.
    """

    kernel: ops.Operation | None
    source: Tensor
    tail: list[ops.Map | Join | Store | Pack]
    shape: Shape
    names: list[str]

    @property
    def reads(self) -> list[Tensor]:
        """All tensors that it reads."""
        first = [self.source] if self.kernel is None else list(self.kernel.inputs)
        return first + [part.other for part in self.tail if isinstance(part, Join)]

    @property
    def writes(self) -> list[Tensor]:
        """All tensors that it writes."""
        made = [part.tensor for part in self.tail if isinstance(part, Store | Pack)]
        return made or ([self.kernel.output] if self.kernel is not None else [])


@dataclasses.dataclass(frozen=True)
class Border:
    """Pixels around a stored map of signs that are +1, for convolutions with one-padding."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


@dataclasses.dataclass(eq=False)
class Program:
    """Steps, and the plan of the memory.

    Attributes:
        network: What the program computes.
        steps: The steps in order.
        views: Tensors that are others under another shape.
        borders: Borders of stored signs.
        offsets: Where in the arena a tensor lies, in bytes.
        scratch: Where a step keeps the pixels it works on, in bytes, by number of the step.
        image: Where the image lies that was made of raw pixels.
        arena: Size of the arena in bytes.
    """

    network: Network
    steps: list[Step]
    views: dict[Tensor, Tensor]
    borders: dict[Tensor, Border] = dataclasses.field(default_factory=dict)
    offsets: dict[Tensor, int] = dataclasses.field(default_factory=dict)
    scratch: dict[int, int] = dataclasses.field(default_factory=dict)
    image: int = 0
    arena: int = 0

    def root(self, tensor: Tensor) -> Tensor:
        """The tensor whose memory this one shares."""
        while tensor in self.views:
            tensor = self.views[tensor]
        return tensor

    @property
    def scratch_size(self) -> int:
        """Bytes that a further thread keeps the pixels in that it works on."""
        return max((scratch_bytes(step, self.network.shapes) for step in self.steps), default=0)

    def size(self, tensor: Tensor) -> int:
        """Bytes of a stored tensor, with its border."""
        shape, border = self.network.shapes[tensor], self.borders.get(tensor, Border())
        rows = shape.height + border.top + border.bottom
        return rows * (shape.width + border.left + border.right) * shape.pixel_bytes


def compile_network(network: Network) -> Program:
    """Fuses the operations of a network and plans its memory."""
    views = {op.output: op.inputs[0] for op in network.operations if isinstance(op, ops.Reshape)}
    program = Program(network, [], views)
    _own_outputs(program)
    _fuse(program)
    _find_borders(program)
    _plan(program)
    return program


def _own_outputs(program: Program) -> None:
    """Gives each output memory of its own: one that is the image, or another output, becomes a copy."""
    network = program.network
    taken = {network.input}
    for number, tensor in enumerate(network.outputs):
        root = program.root(tensor)
        if root in taken:
            copy = network.outputs[number] = network.new_tensor(network.shapes[tensor])
            network.operations.append(ops.Map("output", [tensor], copy, "t"))
        taken.add(root)


def _fuse(program: Program) -> None:
    network = program.network
    ready: set[Tensor] = {network.input}
    done: set[ops.Operation] = set()
    for operation in network.operations:
        if operation in done:
            continue
        if isinstance(operation, ops.Reshape):
            ready.add(operation.output)
            continue
        step = _begin(network, operation)
        if not network.shapes[operation.output].signs:
            _extend(network, step, operation, ready, done)
        program.steps.append(step)
        ready.update(step.writes)


def _begin(network: Network, operation: ops.Operation) -> Step:
    source, shape = operation.inputs[0], network.shapes[operation.output]
    first: list[ops.Map | Join | Store | Pack]
    if isinstance(operation, ops.Map):
        first = [operation]
    elif isinstance(operation, ops.Combine):
        first = [Join(operation.inputs[1], operation.expression)]
    elif isinstance(operation, ops.Sign):
        first = [Pack(operation.output)]
    else:
        return Step(operation, source, [], shape, [operation.name])
    return Step(None, source, first, shape, [operation.name])


def _extend(
    network: Network,
    step: Step,
    operation: ops.Operation,
    ready: set[Tensor],
    done: set[ops.Operation],
) -> None:
    """Takes into the step what can be done with its values while they are at hand."""
    tensor = operation.output
    while True:
        readers = network.consumers(tensor)
        packs = [reader for reader in readers if isinstance(reader, ops.Sign)]
        others = [reader for reader in readers if not isinstance(reader, ops.Sign)]
        follower = next((reader for reader in others if _can_follow(network, reader, tensor, ready)), None)
        if tensor in network.outputs or len(others) > 1 or (others and follower is None):
            step.tail.append(Store(tensor))
        step.tail += [Pack(pack.output) for pack in packs]
        done.update(packs)
        if follower is None or follower in done:
            return
        done.add(follower)
        step.names.append(follower.name)
        if isinstance(follower, ops.Map):
            step.tail.append(follower)
        elif isinstance(follower, ops.Combine):
            first = follower.inputs[0] == tensor
            other = follower.inputs[1 if first else 0]
            step.tail.append(Join(other, follower.expression if first else follower.swapped))
        tensor = follower.output


def _can_follow(network: Network, reader: ops.Operation, tensor: Tensor, ready: set[Tensor]) -> bool:
    if isinstance(reader, ops.Map):
        return True
    if not isinstance(reader, ops.Combine) or reader.inputs[0] == reader.inputs[1]:
        return False
    if reader.inputs[0] != tensor and network.shapes[reader.inputs[0]] != network.shapes[tensor]:
        return False  # the tensor is the single pixel
    return all(other in ready for other in reader.inputs if other != tensor)


def _find_borders(program: Program) -> None:
    network = program.network
    for operation in network.operations:
        if not isinstance(operation, ops.Convolution) or not operation.ones:
            continue
        tensor = operation.inputs[0]
        shape, window = network.shapes[tensor], operation.window
        rows, columns = window.reach(network.shapes[operation.output])
        old = program.borders.get(tensor, Border())
        program.borders[tensor] = Border(
            max(old.top, window.before[0]),
            max(old.left, window.before[1]),
            max(old.bottom, rows - window.before[0] - shape.height),
            max(old.right, columns - window.before[1] - shape.width),
        )


def real_strips(kernel: ops.Convolution, shape: Shape) -> int:
    """Strips of pixels for which a real convolution takes a block of its filters in turn.

    Several where the nearest cache does not hold all filters, but the values of that number of pixels.
    """
    if kernel.kernel.nbytes <= _NEAREST_CACHE // 2 or kernel.groups > 1:
        return 1
    fitting = _NEAREST_CACHE // (4 * REAL_STRIP * shape.channels)
    return max(1, min(4, fitting, shape.pixels // REAL_STRIP))


def strip_layout(kernel: ops.Convolution, shape: Shape, binary: bool) -> tuple[int, int, int]:
    """Where a convolution keeps the counts and the codes of its strip behind its values; their end, in bytes.

    The values are floats, the counts (of a binary convolution) and the codes of its windows 16-bit numbers.
    """
    pixels = STRIP if binary else REAL_STRIP * real_strips(kernel, shape)  # of the last one some are repeated
    if shape.pixels == 1:
        pixels = 1
    counts = _aligned(-(-shape.channels // 16) * 16 * 4 * pixels)
    if not binary:
        return counts, counts, counts
    codes = counts + _aligned(-(-shape.channels // 32) * 32 * 2 * pixels)
    return counts, codes, codes + _aligned(binary_depth(kernel.kernel) * 2 * pixels)


def pack_filters(kernel: np.ndarray) -> np.ndarray:
    """Binary filters `(height, width, inputs, outputs)` as bytes, in groups of 32 and a last one of 16.

    Byte k of the filters of a group lies together, so that a vector register holds the same byte of
    many filters. Unused bits and filters are 0.
    """
    height, width, inputs, outputs = kernel.shape
    bits = np.packbits(kernel.reshape(height * width, inputs, outputs) < 0, axis=1, bitorder="little")
    rows = bits.reshape(-1, outputs)
    return _in_groups(rows, large=32, small=16, least=17)


def _in_groups(rows: np.ndarray, large: int, small: int, least: int) -> np.ndarray:
    """The columns of a matrix in groups, one behind the other: large ones while `least` are left, then small.

    Columns that a last group lacks are 0.
    """
    parts, start, columns = [], 0, rows.shape[1]
    while start < columns:
        size = large if columns - start >= least else small
        chosen = rows[:, start : start + size]
        parts.append(np.pad(chosen, ((0, 0), (0, size - chosen.shape[1]))).reshape(-1))
        start += size
    return np.concatenate(parts)


def codebook_of(kernel: np.ndarray) -> tuple[np.ndarray, int, np.ndarray] | None:
    """Binary filters `(3, 3, inputs, outputs)` as indices of their patterns, bits of an index, patterns.

    Bit t of a pattern is 1 where tap t is -1. Indices of all inputs of the first output come first, their
    lowest bits first; one more byte follows the last one. None where there are more than 256 patterns.
    """
    taps = (kernel.reshape(9, *kernel.shape[2:]) < 0).astype(np.uint16)
    numbers = (taps << np.arange(9, dtype=np.uint16)[:, None, None]).sum(axis=0, dtype=np.uint16)
    patterns, indices = np.unique(numbers.T.reshape(-1), return_inverse=True)
    if len(patterns) > 256:
        return None
    bits = max(int(len(patterns) - 1).bit_length(), 1)
    table = (indices.reshape(-1, 1) >> np.arange(bits)) & 1
    packed = np.packbits(table.astype(np.uint8).reshape(-1), bitorder="little")
    return np.append(packed, np.uint8(0)), bits, patterns.astype(np.uint16)


def block_filters(kernel: np.ndarray) -> np.ndarray:
    """Filters `(height, width, inputs, outputs)` in blocks of 16, the rest in blocks of 4, padded with 0."""
    return _in_groups(kernel.reshape(-1, kernel.shape[-1]), large=16, small=4, least=16)


def scratch_bytes(step: Step, shapes: dict[Tensor, Shape]) -> int:
    """Bytes of the pixels that a step works on, and of what a binary convolution counts with."""
    kernel = step.kernel
    if isinstance(kernel, ops.Pool) and shapes[kernel.output].signs:
        return 0
    if isinstance(kernel, ops.Convolution):
        return strip_layout(kernel, step.shape, shapes[kernel.inputs[0]].signs)[2]
    if kernel is None and not any(isinstance(part, Pack) for part in step.tail):
        return 0
    return _aligned(-(-step.shape.channels // 16) * 16 * 4)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclasses.dataclass(eq=False)
class _Block:
    """Memory that is needed from one step to another."""

    size: int
    first: int
    last: int
    offset: int = -1


def _plan(program: Program) -> None:
    """Gives every tensor a place in the arena, so that those alive at the same time do not overlap.

    The largest tensors choose first, each the lowest place that is free for its whole life. A sum may be
    written over the operand that dies with it.
    """
    network = program.network
    outputs = {program.root(tensor) for tensor in network.outputs}
    last: dict[Tensor, int] = {}
    for number, step in enumerate(program.steps):
        for tensor in step.reads:
            last[program.root(tensor)] = number
    blocks: dict[Tensor, _Block] = {}
    for number, step in enumerate(program.steps):
        for tensor in step.writes:
            if tensor in outputs:
                continue
            end = max(last.get(tensor, number), number)
            over = _overwritten(program, step, tensor, number, last)
            if over is not None and over in blocks:
                blocks[tensor] = blocks[over]
                blocks[tensor].last = end
                last[over] = -1  # nobody else may take it
            else:
                blocks[tensor] = _Block(_aligned(program.size(tensor)), number, end)
    image = _Block(_aligned(program.size(network.input)), -1, last.get(network.input, -1))
    scratch = {
        number: _Block(size, number, number)
        for number, step in enumerate(program.steps)
        if (size := scratch_bytes(step, network.shapes))
    }
    _place([image, *dict.fromkeys(blocks.values()), *scratch.values()])
    program.offsets = {tensor: block.offset for tensor, block in blocks.items()}
    program.scratch = {number: block.offset for number, block in scratch.items()}
    program.image = image.offset
    everything = [image, *blocks.values(), *scratch.values()]
    program.arena = max(block.offset + block.size for block in everything)


def _overwritten(
    program: Program, step: Step, tensor: Tensor, number: int, last: dict[Tensor, int]
) -> Tensor | None:
    """A float map that this step reads pixel by pixel for the last time, in whose place `tensor` fits."""
    shapes = program.network.shapes
    if shapes[tensor].signs or tensor != next((p.tensor for p in step.tail if isinstance(p, Store)), None):
        return None
    windowed = [] if step.kernel is None else [program.root(t) for t in step.kernel.inputs]
    aligned = [step.source] if step.kernel is None else []
    for part in step.tail:
        if isinstance(part, Store):
            break
        aligned += [part.other] if isinstance(part, Join) else []
    later = step.tail[step.tail.index(Store(tensor)) :]
    after = [program.root(part.other) for part in later if isinstance(part, Join)]
    for candidate in aligned:
        root = program.root(candidate)
        same = shapes[root] == shapes[tensor] and shapes[candidate] == shapes[tensor]
        if same and last.get(root) == number and root not in windowed and root not in after:
            return root
    return None


def _place(blocks: list[_Block]) -> None:
    placed: list[_Block] = []
    for block in sorted(blocks, key=lambda block: (-block.size, block.first)):
        offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            if other.last < block.first or block.last < other.first:
                continue
            if offset + block.size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        block.offset = offset
        placed.append(block)


def binary_depth(kernel: np.ndarray) -> int:
    """Bytes of a packed filter: every tap takes whole bytes."""
    return int(np.prod(kernel.shape[:2])) * -(-kernel.shape[2] // 8)
