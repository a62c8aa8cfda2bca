"""Methods by name."""

import dataclasses
from typing import Any

from bnn_tf.errors import UsageError, unknown
from bnn_tf.methods.base import Method
from bnn_tf.methods.bireal import BiReal
from bnn_tf.methods.ovsw import OvSW
from bnn_tf.methods.real import Real
from bnn_tf.methods.recu import ReCU
from bnn_tf.methods.subbit import SubBit

METHODS: dict[str, type[Method]] = {cls.name: cls for cls in (BiReal, ReCU, SubBit, OvSW, Real)}


def get(method: "Method | str | dict[str, Any]", **options: Any) -> Method:
    """The method that an object, a name with options, or a `get_config` dictionary stands for.

    Raises:
        UsageError: the name or an option is unknown; the message lists the valid ones.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, dict):
        options = {**method, **options}
        method = options.pop("name")
    if method not in METHODS:
        raise unknown("method", str(method), METHODS)
    cls = METHODS[method]
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    for key, value in options.items():
        if key not in kinds:
            raise unknown(f"option of method {method}", key, kinds)
        if not _is_a(value, kinds[key]):
            kind = getattr(kinds[key], "__name__", kinds[key])
            raise UsageError(f"option {key} of method {method} must be {kind}, not {value!r}")
    try:
        return cls(**options)
    except ValueError as error:
        raise UsageError(f"method {method}: {error}") from error


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a `float` too, `True` is no number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return isinstance(value, kind) or isinstance(0.0, kind)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
