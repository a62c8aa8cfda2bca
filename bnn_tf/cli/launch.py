"""`bnn-tf launch`."""

import ctypes
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import click

from bnn_tf.cli import options
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training.strategies import LAUNCHED

_GRACE = 60
"""Seconds that the other processes have to save and end after one has ended."""


@click.command(
    cls=options.Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("-n", "--processes", type=click.IntRange(min=2), default=2, help="How many processes.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def launch(processes: int, command: tuple[str, ...]) -> int:
    """Run COMMAND, such as `train --method recu`, in several processes of this machine that train together.

    They train as several machines would, to try a cluster's set-up or to use several sockets. Each line is
    printed with the number of its process. If one ends with an error, the others are stopped. Ctrl-C and
    SIGTERM save the run. The GPUs of the machine are divided among the processes.
    """
    if command[0] != "train":
        raise UsageError(f"only train runs in several processes, not {command[0]!r}")
    if {"-h", "--help", "--dry-run"} & set(command):
        return subprocess.call([sys.executable, "-m", "bnn_tf", *command])
    run = _run_directory(command)
    if run is None:
        raise UsageError("name the run directory (-o RUN, or --resume RUN): all processes share it")
    addresses = [f"localhost:{port}" for port in _free_ports(processes)]
    with _Signals() as signals:
        workers = [_start(command, addresses, number) for number in range(processes)]
        code = _wait(workers, signals)
    if code == 2:
        raise UsageError("the command was refused, see above")
    if code:
        received = signals.received
        what = f"stopped by {received.name}" if received else f"a process ended with exit code {code}"
        error = UserError(f"{what}; {_advice(Path(run), processes)}")
        error.exit_code = 128 + received if received else 1
        raise error
    return 0


def _run_directory(command: Sequence[str]) -> str | None:
    """What `train` takes as the run directory."""
    for at, text in enumerate(command):
        name, given, value = text.partition("=")
        if name in ("--run-dir", "--resume"):
            return value if given else (command[at + 1] if at + 1 < len(command) else None)
        if text.startswith("-o"):
            return text[2:] or (command[at + 1] if at + 1 < len(command) else None)
    return None


def _advice(run: Path, processes: int) -> str:
    if any(run.glob("checkpoints/*/*/state.json")):
        return f"`bnn-tf launch -n {processes} -- train --resume {shlex.quote(str(run))}` goes on"
    return "nothing was saved yet"


class _Signals:
    """Takes SIGINT, SIGTERM and SIGHUP while the body runs.

    Attributes:
        received: The first that came.
        repeated: Whether there was a second.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.repeated = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.repeated = self.received is not None
        self.received = self.received or signal.Signals(number)


def end_with_parent() -> None:
    """Lets Linux send SIGTERM to this process when the one that launched it is gone, however it ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def _free_ports(count: int) -> list[int]:
    """Ports that no program listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _start(command: tuple[str, ...], addresses: list[str], number: int) -> subprocess.Popen[str]:
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    process = subprocess.Popen(
        [sys.executable, "-m", "bnn_tf", *command],
        env={**os.environ, "TF_CONFIG": json.dumps(cluster), LAUNCHED: f"{number}/{len(addresses)}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which passes it on
    )
    threading.Thread(target=_echo, args=(process.stdout, number), daemon=True).start()
    return process


def _echo(stream: IO[str], number: int) -> None:
    for line in stream:
        click.echo(f"[{number}] {line}", nl=False)


def _wait(workers: list[subprocess.Popen[str]], signals: _Signals) -> int:
    """Waits for all; once one has failed or a signal came, the others are stopped.

    Returns:
        The first code that is not 0.
    """
    while True:
        codes = [worker.poll() for worker in workers]
        failed = next((code for code in codes if code), 0)
        if signals.received or failed:
            _stop(workers, signals)
            failed = failed or next((worker.returncode for worker in workers if worker.returncode), 0)
            return 128 - failed if failed < 0 else failed
        if None not in codes:
            return 0
        time.sleep(0.2)


def _stop(workers: list[subprocess.Popen[str]], signals: _Signals) -> None:
    """Lets all save and end; a second signal, or a minute without an end, kills them."""
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signals.received or signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while any(worker.poll() is None for worker in workers):
        if time.monotonic() > deadline or signals.repeated:
            for worker in workers:
                worker.kill()
        time.sleep(0.1)
