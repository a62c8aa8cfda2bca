"""Methods by name."""

from typing import Any

from bnn_tf.errors import UsageError, unknown
from bnn_tf.methods.base import Method, field_names
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
    for key in options:
        if key not in field_names(cls):
            raise unknown(f"option of method {method}", key, field_names(cls))
    try:
        return cls(**options)
    except ValueError as error:
        raise UsageError(f"method {method}: {error}") from error
