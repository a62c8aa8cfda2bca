"""Mutates converted files, and checks that nothing worse than one clear error comes of it.

Each mutation changes a file as damage or malice would: bytes overwritten, cut off, moved, or numbers set to
extremes. The reader (`bnn_tf.deploy.lce_file.LceFile`) must give a file or raise `UserError`; with --run,
files that it accepts are also run in a worker process, where native code may end, and this process may not.

Usage: python scripts/check_tflite_fuzz.py [FILE.tflite …] [--mutations 20000] [--run 200] [--seed 0]
Without files, three small networks are converted first. The exit code is 1 if anything else was raised.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import struct
import sys
import time
import traceback
from pathlib import Path

import click
import numpy as np

from bnn_tf.deploy.interpreter import Worker
from bnn_tf.deploy.lce_file import LceFile
from bnn_tf.errors import UserError

EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**16, 255)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four random changes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(data)))
        kind = int(rng.integers(6))
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[place] = int(rng.integers(256))
        elif kind == 2:
            place -= place % 4
            data[place : place + 4] = struct.pack("<i", int(rng.choice(EXTREMES)))
        elif kind == 3:
            del data[place:]
        elif kind == 4:
            length = int(rng.integers(1, 64))
            del data[place : place + length]
        else:
            other = int(rng.integers(len(data)))
            length = int(rng.integers(1, 32))
            data[place : place + length] = data[other : other + length]
        if len(data) < 8:
            return bytes(data)
    return bytes(data)


def headers_first(content: bytes, rng: np.random.Generator) -> bytes:
    """A mutation of the structure only: buffers with weights are most of a file, and any value fits there."""
    places, data = structure(content), bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.choice(places))
        data[place] = int(rng.integers(256))
    return bytes(data)


@functools.cache
def structure(content: bytes) -> np.ndarray:
    """The positions of the bytes that are no values of constants."""
    file, is_structure = LceFile(content), np.ones(len(content), bool)
    for tensor in file.tensors:
        offset, size = file.place(tensor)
        is_structure[offset : offset + size] = False
    return np.flatnonzero(is_structure)


def small_files() -> dict[str, bytes]:
    """Three converted networks: binary, int8, and plain float."""
    import zoo
    from bnn_tf._tensorflow import tf
    from bnn_tf.deploy import int8
    from bnn_tf.deploy.fold import folded
    from bnn_tf.deploy.lce_file import to_flatbuffer

    model = zoo.CifarResNet20(method="recu", input_shape=(16, 16, 3), num_classes=4, pad_values=1.0)
    graph = folded(model)
    image = tf.keras.Input((6, 6, 3))
    plain = tf.keras.Model(image, tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(image)))
    contents = {"binary": to_flatbuffer(graph.build()), "float": to_flatbuffer(plain)}
    noise = np.random.default_rng(0).standard_normal((8, 16, 16, 3), np.float32)
    int8.quantize_graph(graph, [noise], int8.Int8("full"))
    return {**contents, "int8": to_flatbuffer(graph.build())}


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--mutations", default=20_000, show_default=True, help="Mutations in all.")
@click.option("--run", "runs", default=0, show_default=True, help="Accepted mutations to run, at most.")
@click.option("--seed", default=0, show_default=True)
def main(files: tuple[Path, ...], mutations: int, runs: int, seed: int) -> None:
    """Prints how often a mutation was accepted, refused, or raised something else."""
    contents = {file.name: file.read_bytes() for file in files} or small_files()
    rng = np.random.default_rng(seed)
    results: collections.Counter[str] = collections.Counter()
    start = time.monotonic()
    for number in range(mutations):
        name = list(contents)[number % len(contents)]
        change = headers_first if number % 3 == 2 else mutated
        content = change(contents[name], rng)
        try:
            file = LceFile(content)
        except UserError:
            results["refused by the reader"] += 1
            continue
        except Exception:
            results["uncaught"] += 1
            traceback.print_exc()
            continue
        results["accepted by the reader"] += 1
        if runs > 0 and content != contents[name]:
            runs -= 1
            results[outcome(file)] += 1
    seconds = time.monotonic() - start
    for result, count in results.most_common():
        click.echo(f"{count:>7,} {result}")
    click.echo(f"{mutations:,} mutations in {seconds:.0f} s")
    sys.exit(1 if results["uncaught"] else 0)


def outcome(file: LceFile) -> str:
    """What running a file in a worker comes to."""
    try:
        with contextlib.closing(Worker(file)) as worker:
            worker.run(1)
        return "ran"
    except UserError as error:
        return "ended its worker" if "process" in str(error) else "refused by the interpreter"
    except Exception:
        traceback.print_exc()
        return "uncaught"


if __name__ == "__main__":
    main()
