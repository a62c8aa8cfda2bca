"""Frozen dataclasses that check their own fields, and that become plain data and come back.

Methods, schedules and everything else that a recipe holds derive from `Value`. A field's annotation says
what it may be; the constructor refuses anything else and names the field:

    class Zoom(Value):
        factor: Annotated[float, Range(above=0)] = 1.0

This module does not need TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import inspect
import math
import numbers
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from bnn_tf.errors import UsageError, UserError, unknown
from bnn_tf.registry import Registry


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a field may hold; a bound that is `None` does not apply.

    Example:
        >>> Range(least=0, below=1).holds(0.5), str(Range(least=0, below=1))
        (True, 'at least 0 and below 1')
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the number is inside."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{words} {bound}" for words, bound in bounds.items() if bound is not None)


class InNotebooks:
    r"""Shows an object's own text in place of all its fields: all of it in notebooks, one line in prompts.

    That line holds the first and the last line of the text, which say what the object is about and how it
    turned out. Subclasses define `__str__`.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Report(InNotebooks):
        ...     findings: tuple[str, ...]
        ...     def __str__(self):
        ...         return "\n".join(["net.tflite", *self.findings, "1 < 2"])
        >>> Report(("a", "b"))
        Report(net.tflite; 1 < 2)
        >>> Report(())._repr_html_()
        '<pre style="word-break: normal">net.tflite\n1 &lt; 2</pre>'
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:  # `dataclass` gives every class its own unless the class has one
            cls.__repr__ = InNotebooks.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        lines = str(self).splitlines() or [""]
        ends = dict.fromkeys([lines[0].strip(), lines[-1].strip()])
        return f"{type(self).__name__}({'; '.join(_cut(line) for line in ends)})"

    def _repr_html_(self) -> str:
        """The text as notebooks show it; Jupyter would break its lines inside words."""
        return f'<pre style="word-break: normal">{html.escape(str(self), quote=False)}</pre>'


_REPR_WIDTH = 120


def _cut(line: str) -> str:
    return line if len(line) <= _REPR_WIDTH else f"{line[: _REPR_WIDTH - 1]}…"


Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, below=1)]
Count = Annotated[int, Range(least=1)]
Seed = Annotated[int, Range(least=0, below=2**32)]


# TensorFlow computes with 64-bit whole numbers and 32-bit floats: beyond these it overflows.
_TOO_LARGE = {int: 2**63, float: 2.0**128}


class _MisfitError(Exception):
    """A value that does not fit an annotation."""


def check(what: str, value: Any, kind: Any) -> Any:
    """The value in the type of an annotation: whole numbers become floats and lists tuples where it says so.

    Args:
        what: The name of the argument, for the message.
        value: The value.
        kind: A type, `Literal`, `Annotated` with a `Range`, a union or a tuple of these. Floats must be
            finite.

    Raises:
        UsageError: the value does not fit.

    Example:
        >>> check("rate", 1, Positive)
        1.0
        >>> check("rate", float("nan"), Positive)
        Traceback (most recent call last):
        bnn_tf.errors.UsageError: rate must be a number above 0, not nan
    """
    try:
        return _fit(value, kind)
    except _MisfitError:
        raise UsageError(f"{what} must be {describe(kind)}, not {value!r}") from None


def _fit(value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or isinstance(kind, (str, TypeVar)):
        return value
    if origin is Annotated:
        fitted = _fit(value, arguments[0])
        if not all(extra.holds(fitted) for extra in arguments[1:] if isinstance(extra, Range)):
            raise _MisfitError
        return fitted
    if origin in (typing.Union, types.UnionType):
        return _fit_any(value, arguments)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _MisfitError
        return value
    if kind in (int, float) and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return _fit_number(value, kind)
    if origin is tuple and isinstance(value, (tuple, list)):
        return _fit_tuple(value, arguments)
    expected = origin or (type(None) if kind is None else kind)
    if not isinstance(value, expected) or (expected in (int, float) and isinstance(value, bool)):
        raise _MisfitError
    return value


def _fit_number(value: Any, kind: Any) -> int | float:
    if kind is int and not isinstance(value, numbers.Integral):
        raise _MisfitError
    try:
        number = kind(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float can hold
        number = None
    if number is None or abs(number) >= _TOO_LARGE[kind]:
        raise _MisfitError
    return number


def _fit_any(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _fit(value, kind)
        except _MisfitError:
            continue
    raise _MisfitError


def _fit_tuple(value: tuple | list, kinds: tuple[Any, ...]) -> tuple:
    if len(kinds) == 2 and kinds[1] is ...:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _MisfitError
    return tuple(_fit(item, kind) for item, kind in zip(value, kinds, strict=True))


def describe(kind: Any) -> str:
    """What an annotation allows, in words.

    Example:
        >>> describe(Annotated[int, Range(1, None, 9)] | None)
        'a whole number at least 1 and at most 9, or none'
    """
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (None, type(None)):
        return "none"
    if kind in names:
        return names[kind]
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *(str(extra) for extra in arguments[1:])])
    if origin is Literal:
        return _choice([str(choice) for choice in arguments])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(describe(argument) for argument in arguments)
    if origin is tuple and arguments[1:] == (...,):
        return f"a list, each entry {describe(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} values ({', '.join(describe(argument) for argument in arguments)})"
    return f"of type {getattr(origin or kind, '__name__', kind)}"


def _choice(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


V = TypeVar("V", bound="Value")


@dataclasses.dataclass(frozen=True)
class Value:
    """A frozen dataclass whose fields fit their annotations.

    Subclasses are frozen dataclasses, too. Those that check more than single fields extend `__post_init__`
    and call `super().__post_init__()` first. What a base class defines besides fields are its hooks. A field
    of that name would take a hook's place, which is refused in subclasses that have a `registry`.

    Raises:
        TypeError: a subclass has a field with the name of a hook, or something else in place of a method.
        UsageError: a field does not fit; the message names the value and the field.

    Example:
        >>> bnn_tf.schedules.Cosine(warmup=-1)
        Traceback (most recent call last):
        bnn_tf.errors.UsageError: schedule cosine: warmup must be a whole number at least 0, not -1
    """

    kind: ClassVar[str] = "value"
    name: ClassVar[str]
    registry: ClassVar[Registry]

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuses fields that would take the place of a hook."""
        super().__init_subclass__(**options)
        if not hasattr(cls, "registry"):  # it is no base class for others, and nothing looks for its name
            return
        hooks = _hooks(cls)
        for name in _own_fields(cls) & hooks.keys():
            raise TypeError(
                f"the field {name!r} of the {cls.kind} {cls.__name__} hides the hook {hooks[name]}.{name}; "
                f"give the field another name (or annotate it with ClassVar if it is the hook)"
            )
        for name in vars(cls).keys() & hooks.keys():
            if callable(getattr(super(cls, cls), name, None)) and not callable(getattr(cls, name)):
                raise TypeError(
                    f"{cls.__name__}.{name} must be a method of its class: it hides the hook "
                    f"{hooks[name]}.{name}"
                )

    def __post_init__(self) -> None:
        """Checks every field, and stores it in the type of its annotation."""
        for field, kind in field_types(type(self)).items():  # type: ignore[arg-type]
            checked = check(f"{self._title()}: {field}", getattr(self, field), kind)
            object.__setattr__(self, field, checked)

    def _title(self) -> str:
        return f"{self.kind} {getattr(self, 'name', type(self).__name__)}"

    def require(self, holds: bool, what: str) -> None:
        """Raises a UsageError that says `what` must be so, unless it `holds`.

        Example:
            >>> Value().require(1 < 2, "low < high")
        """
        if not holds:
            raise UsageError(f"{self._title()}: {what}")

    def get_config(self) -> dict[str, Any]:
        """The value as plain data: the name under which its class is registered, and its fields.

        Example:
            >>> import bnn_tf
            >>> bnn_tf.methods.ReCU(tau_min=0.9).get_config()
            {'name': 'recu', 'tau_min': 0.9, 'tau_max': 0.99}
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {key: v.get_config() if isinstance(v, Value) else v for key, v in fields.items()}
        return {"name": self.registry.name_of(type(self)), **plain}


def _own_fields(cls: type) -> set[str]:
    annotations = inspect.get_annotations(cls).items()
    return {name for name, kind in annotations if not re.match(r"(typing\.)?ClassVar\b", str(kind))}


def _hooks(cls: type[Value]) -> dict[str, str]:
    """The public names that the base classes of a value define besides fields, and which of them does.

    Those that all values have count as the hooks of the class that says what kind of value it is.
    """
    *kinds, value = (base for base in cls.__mro__[1:] if issubclass(base, Value))
    owners: dict[str, str] = {}
    fields: set[str] = set()
    for base in (value, *reversed(kinds)):
        owner = kinds[-1] if base is value and kinds else base
        owners |= dict.fromkeys((*vars(base), *inspect.get_annotations(base)), owner.__name__)
        fields |= _own_fields(base)
    return {name: owner for name, owner in owners.items() if name not in fields and name[0] != "_"}


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, by name; `Any` where one cannot be evaluated."""
    return {field.name: _evaluated(field, cls) for field in dataclasses.fields(cls)}


def _evaluated(field: dataclasses.Field, cls: type) -> Any:
    if not isinstance(field.type, str):
        return field.type
    owner = next(base for base in cls.__mro__ if field.name in base.__dict__.get("__annotations__", {}))
    scope = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    try:
        holder = type("holder", (), {"__annotations__": {"it": field.type}})
        return typing.get_type_hints(holder, scope, {}, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError):  # a name that only type checkers see
        return Any


def resolve(base: type[V], thing: V | str | Mapping[str, Any], **options: Any) -> V:
    """The value that an object, a name with options, or a `get_config` dictionary stands for.

    Args:
        base: The class from which the value derives; its `registry` knows the names.
        thing: A value, a registered name, `package.module:Class`, or `{"name": …, field: …}`.
        **options: Fields to set.

    Raises:
        UsageError: a name or field is unknown, or a field does not fit.
        UserError: `package.module:Class` cannot be imported, may not be, or is something else.

    Example:
        >>> resolve(bnn_tf.methods.Method, {"name": "subbit", "bits": 4})
        SubBit(bits=4, seed=0, interval=25, codebook='random')
    """
    if isinstance(thing, base):
        return dataclasses.replace(thing, **options) if options else thing
    if isinstance(thing, Mapping):
        if "name" not in thing:
            raise UsageError(f"the dictionary of a {base.kind} needs a 'name'")
        options = {**{key: value for key, value in thing.items() if key != "name"}, **options}
        thing = thing["name"]
    if not isinstance(thing, str):
        raise UsageError(f"a {base.kind} must be an object or a name, not {thing!r}")
    cls = base.registry.get(thing)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(f"{thing!r} is no {base.kind}: it does not derive from {base.__name__}")
    valid = [field.name for field in dataclasses.fields(cls)]
    for key in options:
        if key not in valid:
            raise unknown(f"option of {base.kind} {thing}", key, valid)
    return cls(**options)
