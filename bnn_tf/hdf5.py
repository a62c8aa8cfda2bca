"""HDF5 files of unknown origin: read to the end in another process before this one opens them.

HDF5's library trusts the bytes that it reads. A damaged or hostile file can make it loop without end, end the
process, or fill the memory, and neither an exception nor Ctrl-C gets through to it. So a worker process opens
the file first and reads everything in it: every link, attribute and array. What the worker survives in time,
the same library reads here as well. It is started once and serves all files of a process.

The worker (this module run as a script) answers each line of JSON `{"path", "member", "attributes"}` with a
line of JSON: `{"attributes": {NAME: TEXT}}`, `{"unsafe": REASON}` or `{"damaged": REASON}`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn_tf._runtime import end_worker, start_worker
from bnn_tf._tensorflow import lazy
from bnn_tf.errors import UnsafeModelError, UserError, first_line

if TYPE_CHECKING:
    import h5py
else:
    h5py = lazy("h5py")

EXPANDED_LIMIT = 8 * 2**30
"""The most bytes that the arrays of a file may take in memory."""

ATTRIBUTE_LIMIT = 64 * 2**20
"""The most bytes of one attribute; the configuration of a network with a thousand layers takes a million."""

PATIENCE = 30.0
"""Seconds that a file may take, and one more for every 10 MB of it."""


def inspect(
    path: str | os.PathLike, member: str | None = None, attributes: Sequence[str] = ()
) -> dict[str, str]:
    """Reads an HDF5 file to the end in the worker process.

    Args:
        path: The file.
        member: The name of the HDF5 file within the zip archive at `path`.
        attributes: Names of attributes of the file whose text is wanted.

    Returns:
        The texts by name, of those attributes that the file has.

    Raises:
        UnsafeModelError: it refers to other files, or its arrays would not fit the memory.
        UserError: it is damaged, be it that the library does not come to an end with it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights.h5"
        >>> with h5py.File(path, "w") as file:
        ...     file.attrs["backend"] = "tensorflow"
        >>> inspect(path, attributes=["backend"])
        {'backend': 'tensorflow'}
    """
    path = Path(path)
    request = {"path": os.path.abspath(path), "member": member, "attributes": list(attributes)}
    with _lock:
        answer = _running_worker().ask(request, PATIENCE + path.stat().st_size / 1e7)
    if "unsafe" in answer:
        raise UnsafeModelError(f"{path} {answer['unsafe']}")
    if "damaged" in answer:
        raise UserError(f"{path} is damaged: {answer['damaged']}")
    return answer["attributes"]


class _Worker:
    """A process that reads HDF5 files."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = start_worker("bnn_tf.hdf5", subprocess.DEVNULL)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has started; the time of a file begins after that

    def is_usable(self) -> bool:
        """Whether it runs, and was started by this process and not by the one that this was forked from."""
        return self.owner == os.getpid() and self._process.poll() is None

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer; a worker that ends or takes longer says so of the file, and is not usable any more."""
        process, late = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        line = b""
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        except BaseException:  # a signal: the answer would be taken for that of the next file
            self.close()
            raise
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return json.loads(line)
        self.close()
        if late.is_set():
            return {"damaged": f"reading it does not end within {seconds:.0f} s"}
        return {"damaged": f"it ends the process that reads it (exit code {process.returncode})"}

    def close(self) -> None:
        """Ends the process."""
        if self.owner == os.getpid():
            end_worker(self._process)


_lock = threading.Lock()
_worker: _Worker | None = None


def _running_worker() -> _Worker:
    global _worker
    if _worker is None or not _worker.is_usable():
        _worker = _Worker()
        atexit.register(_worker.close)
    return _worker


# The worker itself -------------------------------------------------------------------------------------


def read(path: str, member: str | None, attributes: Sequence[str]) -> dict[str, Any]:
    """The worker's answer for a file."""
    try:
        with contextlib.ExitStack() as stack:
            source: Any = path
            if member is not None:  # a copy, as going back in an archive reads it from the start
                source = stack.enter_context(tempfile.TemporaryFile())
                with zipfile.ZipFile(path) as archive, archive.open(member) as packed:
                    shutil.copyfileobj(packed, source, 2**20)
                source.seek(0)
            file = stack.enter_context(h5py.File(source, "r"))
            problem = _read_all(file)
            if problem is not None:
                return {"unsafe": problem}
            texts = {name: file.attrs[name] for name in attributes if name in file.attrs}
            texts = {name: text.decode() if isinstance(text, bytes) else text for name, text in texts.items()}
            for name, text in texts.items():
                if not isinstance(text, str):
                    return {"damaged": f"its {name} is no text"}
            return {"attributes": texts}
    except Exception as error:  # whatever h5py and zipfile meet in a damaged file
        return {"damaged": first_line(error)[:200]}


def _read_all(root: h5py.File) -> str | None:
    """Reads every link, attribute and array; gives the reason for which the file must not be loaded."""
    seen, waiting, arrays, expanded = set(), [root], [], 0
    while waiting:
        item = waiting.pop()
        if (address := h5py.h5o.get_info(item.id).addr) in seen:
            continue
        seen.add(address)
        for name in item.attrs:
            attribute = h5py.h5a.open(item.id, name.encode())
            count = attribute.get_space().get_simple_extent_npoints()
            if count * attribute.dtype.itemsize > ATTRIBUTE_LIMIT:
                return f"has an attribute {name} of more than {ATTRIBUTE_LIMIT >> 20} MB"
            item.attrs[name]  # reads it
        if isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                return f"stores the array {item.name} in another file"
            expanded += item.size * item.dtype.itemsize if item.size else 0
            arrays.append(item)
        elif isinstance(item, h5py.Group):
            for name in item:
                if not isinstance(item.get(name, getlink=True), h5py.HardLink):
                    return f"refers to another place or file at {item.name}/{name}"
                waiting.append(item[name])
    if expanded > EXPANDED_LIMIT:
        return f"has arrays that would take {expanded / 1e9:.3g} GB"
    for array in arrays:
        for piece in array.iter_chunks() if array.chunks else [()]:
            array[piece]  # reads it
    return None


def main() -> None:
    """Answers until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        limit = EXPANDED_LIMIT + 2**31
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(h5py.version.hdf5_version, flush=True)
    for line in sys.stdin:
        print(json.dumps(read(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
