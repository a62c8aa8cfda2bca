"""Errors about data, and the translation of TensorFlow's into them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError


class DataError(UserError):
    """A dataset is missing, incomplete, corrupt or laid out in a way that cannot be read."""


class UnknownDatasetError(DataError, UsageError):
    """No dataset has the name that was asked for (exit code 2)."""


# A tf.data pipeline can only raise TensorFlow's own errors. This pair marks the sentence that is ours.
_OPEN, _CLOSE = "bnn-tf-data-error<<", ">>"
_MARKED = re.compile(re.escape(_OPEN) + "(.*?)" + re.escape(_CLOSE), re.DOTALL)


def marked(message: tf.Tensor) -> tf.Tensor:
    """The message of a graph assertion (a string scalar), so that `clear_errors` recognises it."""
    return tf.strings.join([_OPEN, message, _CLOSE])


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turns a failure of a data pipeline inside the body into a `DataError` that names the file.

    `model.fit`, `model.evaluate` and loops over the datasets of this package belong in the body: TensorFlow
    reports what goes wrong in a pipeline as its own errors, wrapped in pages of graph traces.

    Raises:
        DataError: an image or a record could not be read or decoded.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = _MARKED.search(str(error))
        if found:
            raise DataError(_unescaped(found.group(1))) from error
        raise


def _unescaped(text: str) -> str:
    """The message as it was: TensorFlow puts backslashes before quotes and backslashes."""
    return re.sub(r"\\([\\'\"])", r"\1", text)
