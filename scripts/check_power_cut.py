#!/usr/bin/env python3
"""Cuts the power while a run trains, again and again, and checks that the run survives.

The run directory is on an ext4 file system in a file that is mounted through a loop device. A power cut is a
copy of that file at a moment of the training: it holds what has reached the disk, and nothing of what waits
in memory. Each copy is mounted (ext4 replays its journal, as after a real cut) and the run in it must open,
with all epochs that metrics.csv had at the cut, whole weights, and a sound checkpoint to continue from.

Needs the right to mount; says so and stops with exit code 0 where it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SIZE = 192 * 2**20
DEFAULT = "--method recu --model cifar_resnet20 --dataset digits --epochs 400 --limit 128"


@contextlib.contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mounts a file that holds a file system."""
    folder = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def may_mount(work: Path) -> str:
    """Why this machine cannot do it; empty where it can."""
    image = work / "probe.img"
    with open(image, "wb") as file:
        file.truncate(8 * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
        with mounted(image):
            return ""
    except FileNotFoundError as error:
        return f"there is no {error.filename}"
    except subprocess.CalledProcessError as error:
        return error.stderr.decode().strip() or "mounting is not allowed"
    finally:
        image.unlink()


def photograph(image: Path, copy: Path) -> None:
    """Copies a disk as it is at one moment, although it is written to meanwhile.

    Two copies in a row that are the same show what was on the disk between them.
    """
    again = copy.with_suffix(".again")
    subprocess.run(["cp", "--sparse=always", image, again], check=True)
    while True:
        os.replace(again, copy)
        subprocess.run(["cp", "--sparse=always", image, again], check=True)
        if subprocess.run(["cmp", "-s", copy, again], check=False).returncode == 0:
            again.unlink()
            return


def epochs(run: Path) -> int:
    """The epochs that metrics.csv has, as the process that trains sees it."""
    metrics = run / "metrics.csv"
    return max(len(metrics.read_text().splitlines()) - 1, 0) if metrics.exists() else 0


def check(image: Path, promised: int) -> str:
    """What is wrong with the run in a copy; an empty text if it is whole."""
    from bnn_tf.training import Run

    with mounted(image) as folder:
        try:
            run = Run.open(folder / "run")
            saved = run.checkpoints.newest_sound()
            run.load_network()
        except Exception as error:  # whatever a lost file leads to
            return f"{type(error).__name__}: {error}"
        if saved is None or run.epochs_done() < promised:
            return f"{run.epochs_done()} epochs instead of {promised}"
        return ""


def main() -> int:
    """Trains, cuts, checks; the exit code is 1 if a run was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--snapshots", type=int, default=20)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two cuts")
    parser.add_argument("train", nargs="*", help="arguments of bnn-tf train")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    if reason := may_mount(work):
        print(f"skipped: {reason}")
        shutil.rmtree(work)
        return 0
    image, lost = work / "disk.img", 0
    with open(image, "wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    arguments = options.train or DEFAULT.split()
    copies: list[tuple[Path, int]] = []
    with mounted(image) as folder, open(work / "log", "w") as log:
        call = [sys.executable, "-m", "bnn_tf", "train", *arguments, "--run-dir", str(folder / "run")]
        training = subprocess.Popen(call, stdout=log, stderr=log)
        try:
            while not epochs(folder / "run") and training.poll() is None:
                time.sleep(0.2)
            while len(copies) < options.snapshots and training.poll() is None:
                promised = epochs(folder / "run")
                copy = work / f"cut{len(copies)}.img"
                photograph(image, copy)
                copies.append((copy, promised))
                time.sleep(options.every)
        finally:
            training.kill()
            training.wait()
    print(f"{len(copies)} cuts while {' '.join(arguments)} trained")
    for copy, promised in copies:
        problem = check(copy, promised)
        lost += bool(problem)
        print(f"{copy.name}: {promised} epochs promised, {problem or 'whole'}", flush=True)
        os.remove(copy)
    if not copies:
        print((work / "log").read_text()[-2000:])
    shutil.rmtree(work)
    print(f"{lost} of {len(copies)} lost")
    return int(bool(lost) or not copies)


if __name__ == "__main__":
    sys.exit(main())
