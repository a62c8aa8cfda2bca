"""Files that survive a crash or a power cut: atomic and synced writes, locks, checksums, folders.

A file is written under a temporary name in the folder that it will be in, synced to the disk, renamed over
the old one, and the folder is synced after that. At any moment the name holds either the old content or
the new one, also after a power cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from bnn_tf.errors import ClaimedError, UserError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".part"
"""The ending of temporary names. What a killed process left behind ends in it, too."""


def expanded(path: str | os.PathLike) -> Path:
    """The path with the home folder in place of `~`; that of a user who does not exist stays as it is.

    Example:
        >>> expanded("~no_such_user/net.keras")
        PosixPath('~no_such_user/net.keras')
    """
    return Path(os.path.expanduser(path))


def sync(path: str | os.PathLike) -> None:
    """Waits until a file or a folder (its list of names) has reached the disk.

    Raises:
        OSError: the disk reports a failure. File systems that cannot sync a folder are passed over.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Replaces a file by what the body writes to the temporary path that it is given.

    If the body raises, the old file stays as it was and the temporary file is removed.

    Raises:
        UserError: the folder or the disk does not take the file; the message names `path`.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "weights.bin"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_bytes(b"123")
        >>> target.read_bytes()
        b'123'
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(
            f"cannot write {path}: it is a pipe or a device, which a file would take the place of"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Replaces a file atomically by `data`.

    Raises:
        UserError: the folder or the disk does not take the file.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replaces a file atomically by `text` in UTF-8, its line ends as they are.

    Raises:
        UserError: the folder or the disk does not take the file.
    """
    write_bytes(path, text.encode())


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Removes the temporary files that killed processes left in a folder; call it while holding its lock."""
    for path in Path(folder).glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def checksum(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str) -> Iterator[None]:
    """Holds an exclusive lock on the file at `path` (made if missing) while the body runs.

    The lock belongs to the process and ends with it. Where the file system has no locks, a warning says so
    and the body runs without one.

    Args:
        path: A file that serves as the lock; its content is not touched.
        busy: The message of the error where another process holds the lock.

    Raises:
        ClaimedError: another process holds it.
        UserError: the file cannot be opened for writing.
    """
    if fcntl is None:
        warnings.warn("this system has no file locks; start only one process on a run", stacklevel=3)
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)  # NFS needs a writable descriptor
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClaimedError(busy) from None
        except OSError as error:
            warnings.warn(f"{path} cannot be locked: {error.strerror}; start only one process", stacklevel=3)
        yield
    finally:
        os.close(descriptor)


def empty_folder(path: str | os.PathLike, hint: str = "name another folder") -> Path:
    """A folder that holds nothing yet; it is made if it does not exist.

    Args:
        path: The folder.
        hint: What the message advises where there is something in it.

    Raises:
        UserError: there is something in it, it is no folder, or it cannot be made.
    """
    require_empty(path, hint)
    return make_folder(path)


def make_folder(path: str | os.PathLike, new: bool = False) -> Path:
    """A folder, which is made with those above it where it does not exist.

    Raises:
        FileExistsError: it exists although it is meant to be `new`.
        UserError: it cannot be made.

    Example:
        >>> import tempfile
        >>> make_folder(tempfile.mkdtemp() + "/a/b").name
        'b'
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=not new)
    except OSError as error:
        if new and isinstance(error, FileExistsError):
            raise
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def require_empty(path: str | os.PathLike, hint: str = "name another folder") -> None:
    """Checks that there is nothing in a folder, or no such folder.

    Args:
        path: The folder.
        hint: What the message advises where there is something in it.

    Raises:
        UserError: there is something in it, it is no folder, or it cannot be read.
    """
    try:
        occupied = any(Path(path).iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        blocking = next((part for part in (Path(path), *Path(path).parents) if part.exists()), path)
        raise UserError(f"{blocking} is a file, not a folder; {hint}") from None
    except OSError as error:
        raise UserError(f"cannot read the folder {path}: {error.strerror}") from error
    if occupied:
        raise UserError(f"{path} is not empty; {hint}")
