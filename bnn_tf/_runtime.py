"""What must happen before and while TensorFlow is imported: Keras 2, and quiet."""

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bnn_tf.errors import UserError

_KERAS_3_MESSAGE = (
    "bnn-tf needs Keras 2 (Larq does not run on Keras 3), but TensorFlow was imported before bnn_tf "
    "and uses Keras {version}. Import bnn_tf (or zoo) before tensorflow, or set the environment "
    "variable TF_USE_LEGACY_KERAS=1 before Python starts."
)


def configure_tensorflow() -> None:
    """Sets what TensorFlow reads from the environment, whoever imports it later: Keras 2, no notices, oneDNN.

    TensorFlow turns oneDNN on by itself only for some of Intel's processors. On AMD's, a training step of
    `cifar_resnet20` takes about half the time with it. The user's own values of the last two stay.

    Raises:
        ImportError: TensorFlow is imported already and runs with Keras 3.
    """
    tensorflow = sys.modules.get("tensorflow")
    # TensorFlow binds Keras when tf.keras is first used: look before the variable is set. Of the Kerases
    # that it binds, tf_keras (which is Keras 2) has no version there.
    version = getattr(tensorflow.keras, "__version__", "2.") if tensorflow is not None else "2."
    if not version.startswith("2."):
        raise ImportError(_KERAS_3_MESSAGE.format(version=version))
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def require_own_zoo() -> None:
    """Checks that `import zoo` gives this project's networks: the two packages are installed side by side.

    Raises:
        ImportError: another package called `zoo` comes first in `sys.path`.
        SystemExit: the same where Python starts the command `bnn-tf`, which says it in one line.
    """
    spec = importlib.util.find_spec("zoo")
    own = Path(__file__).parents[1] / "zoo"
    if spec is None or spec.origin is None or not own.is_dir():
        return
    if not Path(spec.origin).parent.samefile(own):
        message = (
            f"bnn-tf's package 'zoo' is hidden by {Path(spec.origin).parent}, which comes first in sys.path: "
            f"rename that package, or start Python elsewhere"
        )
        # The command's own code is not imported yet; Python puts -m here while it looks for the package.
        started = Path(sys.argv[0]).stem if sys.argv else ""
        if started == "bnn-tf" or (started == "-m" and "bnn_tf" in sys.orig_argv):
            raise SystemExit(f"bnn-tf: {message}")
        raise ImportError(message)


def start_worker(module: str, stderr: Any) -> "subprocess.Popen[bytes]":
    """Starts a module of this package as a program, with pipes to its standard input and from its output."""
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "PYTHONPATH": paths},
    )


def end_worker(process: "subprocess.Popen[bytes]") -> None:
    """Ends a worker at once; it keeps nothing."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was not sent yet has no reader
                stream.close()


@contextlib.contextmanager
def quiet_native_stderr(keep_python: bool = False) -> Iterator[None]:
    """Holds back what native code writes to standard error; lets it through where the body fails.

    A `UserError` says itself what is wrong. TensorFlow's C++ libraries write start-up notices straight to
    file descriptor 2, before any logging level applies.

    Args:
        keep_python: Whether what Python writes there appears at once, as long bodies need it.
    """
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (AttributeError, OSError):  # no standard error at all (pythonw, some daemons)
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        before = sys.stderr
        if keep_python and before is sys.__stderr__ and before is not None:
            sys.stderr = os.fdopen(
                os.dup(saved), "w", buffering=1, encoding=before.encoding, errors=before.errors
            )
        try:
            yield
        except BaseException as error:
            if not isinstance(error, UserError):
                held.seek(0)
                os.write(saved, held.read())
            raise
        finally:
            if sys.stderr is not before:
                sys.stderr.close()
            sys.stderr = before
            os.dup2(saved, 2)
            os.close(saved)
