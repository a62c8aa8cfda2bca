"""Stops trainings of all methods at random moments, resumes them, and counts the bits that differ at the end.

python scripts/check_stops.py [--stops 40] [--seed 0] [--methods recu,ovsw]

Each run trains a tiny network on a few digits in deterministic mode. It is stopped by SIGKILL, SIGTERM or
SIGINT in the middle of an epoch, in the middle of saving, while it evaluates, or by two signals in a row, and
resumed in a new process until it is complete. Then its metrics and all tensors of its last checkpoints are
compared with those of a run that nobody stopped. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import bnn_tf  # noqa: F401  (selects Keras 2)
from bnn_tf import files, methods
from bnn_tf._tensorflow import tf
from bnn_tf.data.images import Flip, Images, PadCrop
from bnn_tf.schedules import Cosine
from bnn_tf.training import Run, RunConfig, Session, StoppedError, train, trainer
from zoo import architecture, recipes
from zoo.recipes import SGD, Adam, Phase

KINDS = ("kill", "kill in a save", "SIGTERM", "SIGINT", "SIGTERM in the evaluation", "SIGTERM twice")


@architecture("tiny", input_shape=(8, 8, 3), num_classes=10)
def tiny(net, image):
    """A convolution and a binary one."""
    return net.binary(net.batch_norm(net.conv(image, 4, 3, "stem_conv"), "stem_bn"), 8, "body")


def recipe(method: str) -> recipes.Recipe:
    """Three epochs of three steps with a method, or three phases."""
    sgd = SGD(learning_rate=0.05, weight_decay=1e-3)
    one = Phase(epochs=3, batch_size=16, optimizer=sgd, schedule=Cosine(warmup=2))
    phases = {
        "subbit": (Phase(epochs=3, batch_size=16, optimizer=Adam(learning_rate=1e-2)),),
        "bireal": (Phase(epochs=3, batch_size=16, optimizer=sgd, ema=0.9),),
        "phases": (
            Phase("real", 2, 16, optimizer=sgd, method=methods.Real("relu")),
            Phase("binary", 2, 16, optimizer=sgd),
            Phase("norm", 2, 20, optimizer=sgd, binarize_kernels=True, trainable="batch_norm"),
        ),
    }.get(method, (one,))
    value = {"phases": methods.BiReal(), "subbit": methods.SubBit(interval=2)}.get(method)
    images = Images((PadCrop(2), Flip()), size=8, normalization="unit")
    return recipes.Recipe(value or methods.get(method), "tiny", "digits", phases, images=images)


def start_again(path: Path) -> None:
    """Trains what is left of a run; what a child process does."""
    session = Session(Console(file=io.StringIO()))
    try:
        train(Run.open(path), session)
    except StoppedError as error:
        os._exit(error.exit_code)


def arm(kind: str, at: int) -> None:
    """Lets this process be stopped at the `at`-th opportunity for a kind of stop."""
    numbers = {"kill": signal.SIGKILL, "kill in a save": signal.SIGKILL, "SIGINT": signal.SIGINT}
    number = numbers.get(kind, signal.SIGTERM)
    calls = 0

    def counted(original: Callable) -> Callable:
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), number)
                if kind == "SIGTERM twice":
                    os.kill(os.getpid(), number)
            return original(*args, **options)

        return call

    if kind == "kill in a save":
        files.sync = counted(files.sync)
    elif kind == "SIGTERM in the evaluation":
        trainer.PhaseTraining.evaluate = counted(trainer.PhaseTraining.evaluate)
    else:
        trainer.PhaseTraining.save_if_due = counted(trainer.PhaseTraining.save_if_due)


def in_child(work: Callable[[], None]) -> int:
    """The exit code (128 + signal) of a forked process that does the work; this one must not compute."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def new_run(method: str, path: Path) -> Run:
    """A run with frequent checkpoints."""
    config = RunConfig(
        recipe(method),
        limit=48,
        deterministic=True,
        class_names=tuple("0123456789"),
        checkpoint_every="2steps",
    )
    return Run.create(config, path)


def tensors(run: Run) -> dict[str, bytes]:
    """Everything in the last checkpoint of each phase, and the metrics without times."""
    values = {}
    for phase in range(len(run.config.recipe.phases)):
        saved = [one for one in run.checkpoints.all() if one.phase == phase][-1]
        reader = tf.train.load_checkpoint(saved.prefix)
        for name in reader.get_variable_to_shape_map():
            if name.endswith("VARIABLE_VALUE") and "save_counter" not in name:
                key = re.sub(r"_\d+\.S", ".S", name)  # Keras numbers the quantizers of a process
                values[f"{phase}/{key}"] = reader.get_tensor(name).tobytes()
    for number, row in enumerate(run.metrics()):
        values |= {f"row {number} {key}": value.encode() for key, value in row.items() if key != "seconds"}
    return values


def differing_bits(one: dict[str, bytes], other: dict[str, bytes]) -> int:
    """Bits that differ; a value that only one has counts whole."""
    count = 0
    for name in one.keys() | other.keys():
        a, b = one.get(name, b""), other.get(name, b"")
        count += 8 * abs(len(a) - len(b)) + sum((x ^ y).bit_count() for x, y in zip(a, b, strict=False))
    return count


def main() -> None:
    """Runs the stops and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stops", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default="bireal,recu,subbit,ovsw,phases")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    names = options.methods.split(",")
    folder = Path(tempfile.mkdtemp(prefix="check_stops"))
    began = time.monotonic()
    codes: dict[str, list[str]] = {}
    for index, name in enumerate(names):
        whole = folder / f"{name}-whole"
        assert in_child(lambda name=name, whole=whole: (new_run(name, whole), start_again(whole))) == 0, name
        stopped = folder / f"{name}-stopped"
        assert in_child(lambda name=name, stopped=stopped: new_run(name, stopped)) == 0
        share = options.stops // len(names) + (index < options.stops % len(names))
        codes[name] = []
        number = 0
        while sum(not text.endswith(" 0") for text in codes[name]) < share:
            kind = KINDS[(number + index) % len(KINDS)]
            number += 1
            # Small numbers, so that the run lasts for all stops.
            at = generator.randint(1, 14) if kind == "kill in a save" else generator.randint(1, 2)
            code = in_child(lambda kind=kind, at=at, stopped=stopped: (arm(kind, at), start_again(stopped)))
            codes[name].append(f"{kind} {code}")
            assert code in (0, 128 + signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT), code
            print(f"{name}: {codes[name][-1]}", file=sys.stderr, flush=True)
            if code == 0:  # complete before the stop came: begin another run
                stopped_again = folder / f"{name}-stopped-{number}"
                assert in_child(lambda name=name, path=stopped_again: new_run(name, path)) == 0
                stopped = stopped_again
        for path in sorted(folder.glob(f"{name}-stopped*")):
            assert in_child(lambda path=path: start_again(path)) == 0, path
    bits = 0
    for name in names:
        expected = tensors(Run.open(folder / f"{name}-whole"))
        resumed = [tensors(Run.open(path)) for path in sorted(folder.glob(f"{name}-stopped*"))]
        different = sum(differing_bits(expected, values) for values in resumed)
        bits += different
        stops = [text for text in codes[name] if not text.endswith(" 0")]
        print(f"{name}: {len(stops)} stops, {len(resumed)} runs, {different} differing bits")
        print("   ", ", ".join(codes[name]))
    print(f"{bits} differing bits, {time.monotonic() - began:.0f} s")
    sys.exit(bits > 0)


if __name__ == "__main__":
    main()
