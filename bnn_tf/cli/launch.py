"""`bnn-tf launch`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

import click

from bnn_tf.cli import options
from bnn_tf.errors import UsageError, UserError

_GRACE = 60
"""Seconds that the other processes have to save and end after one has ended."""


@click.command(
    cls=options.Command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "-n", "--processes", type=click.IntRange(min=2), default=2, show_default=True, help="How many processes."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def launch(processes: int, command: tuple[str, ...]) -> None:
    """Run COMMAND, such as `train --method recu`, in several processes of this machine that train together.

    They train as several machines would, to try a cluster's set-up or to use several sockets. Each line is
    printed with the number of its process. If one ends with an error, the others are stopped.
    """
    if command[0] != "train":
        raise UsageError(f"only train runs in several processes, not {command[0]!r}")
    if not any(text in ("-o", "--output", "--run-dir", "--resume") for text in command):
        raise UsageError("name the run directory (-o RUN, or --resume RUN): all processes share it")
    addresses = [f"localhost:{port}" for port in _free_ports(processes)]
    workers = [_start(command, addresses, number) for number in range(processes)]
    try:
        code = _wait(workers)
    except KeyboardInterrupt:
        _stop(workers, signal.SIGINT)
        code = 130
    if code == 2:
        raise UsageError("the command was refused, see above")
    if code:
        raise UserError(f"a process ended with exit code {code}; `bnn-tf train --resume RUN` goes on")


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
        env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    threading.Thread(target=_echo, args=(process.stdout, number), daemon=True).start()
    return process


def _echo(stream: IO[str], number: int) -> None:
    for line in stream:
        click.echo(f"[{number}] {line}", nl=False)


def _wait(workers: list[subprocess.Popen[str]]) -> int:
    """Waits for all; once one has failed, the others are stopped. Gives the first code that is not 0."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = next((code for code in codes if code), 0)
        if failed:
            _stop(workers, signal.SIGTERM)
            return 128 - failed if failed < 0 else failed
        if None not in codes:
            return 0
        time.sleep(0.2)


def _stop(workers: list[subprocess.Popen[str]], number: signal.Signals) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)
    deadline = time.monotonic() + _GRACE
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
