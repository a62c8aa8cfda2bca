"""Registries: how a name on the command line or in a file becomes a method, a network or a dataset.

A name is either registered (by this package, by an installed package through an entry point, or by the
program itself), or says where the object is, as `package.module:Name`. Modules named in the second way are
imported only if they belong to an installed distribution or if `trust` was called for them: a name that
stands in a file must not decide which code runs. For the same reason a function of an installed package
that nobody trusted is taken only where it is registered.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from bnn_tf._tensorflow import tf
from bnn_tf.errors import Elsewhere, UntrustedModuleError, UserError, first_line, unknown

T = TypeVar("T")

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_trusted: set[str] = set()


def is_path(name: str) -> bool:
    """Whether a name says where an object is, as `package.module:Name`.

    Example:
        >>> is_path("my_methods:Mine"), is_path("recu")
        (True, False)
    """
    return bool(_PATH.fullmatch(name))


def path_of(thing: object) -> str:
    """Where a class or function is, as `package.module:Name`.

    Example:
        >>> path_of(Registry)
        'bnn_tf.registry:Registry'
    """
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"


def trust(name: str) -> None:
    """Allows a module to be imported, because the user named it in this process.

    Args:
        name: `package.module`, or `package.module:Name` of an object in it.

    Example:
        >>> trust("my_methods:Mine")
    """
    _trusted.add(name.partition(":")[0])


def import_module(module: str, what: str | None = None) -> types.ModuleType:
    """Imports a module that is installed or trusted, without TensorFlow's start-up noise.

    Args:
        module: `package.module`.
        what: What is wanted from it, for messages.

    Raises:
        UntrustedModuleError: it is neither installed nor trusted, or it is a program, which would run.
        UserError: it is not there, or raises an error when it is imported.

    Example:
        >>> import_module("larq.layers").__name__
        'larq.layers'
    """
    if module not in _trusted:
        if not _is_installed(module):
            raise UntrustedModuleError(what, module)
        if "__main__" in module.split("."):
            raise UntrustedModuleError(what, module, "is a program")
    try:
        if module not in sys.modules and importlib.util.find_spec(module.partition(".")[0]) is not None:
            _ = tf.Module  # such modules import TensorFlow: it is loaded here, without its start-up noise
        return importlib.import_module(module)
    except Exception as error:  # whatever the module does when it is imported
        raise UserError(
            f"{what or f'the module {module!r}'} does not load: {type(error).__name__}: {first_line(error)}"
        ) from error


def _is_installed(module: str) -> bool:
    """Whether a module's top-level package belongs to an installed distribution."""
    return module.partition(".")[0] in importlib.metadata.packages_distributions()


class Registry(Generic[T]):
    """Objects of one kind by name.

    Args:
        kind: What the objects are, in the singular, for messages (`"method"`).
        entry_points: The group of entry points through which installed packages add objects.
        functions: Whether the objects are functions that nothing tells from others. A class is asked for its
            base, a network for its arguments before it is called; here `package.module:name` could be any
            function. It stands only for what is registered or an entry point, unless its module is trusted.
        elsewhere: What other names mean, for messages.

    Example:
        >>> shapes = Registry("shape")
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes.get("square") is Square
        True
    """

    def __init__(
        self,
        kind: str,
        entry_points: str | None = None,
        functions: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.kind, self._group, self._functions = kind, entry_points, functions
        self.elsewhere = elsewhere or Elsewhere()
        self._objects: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds an object under `name`.

        Raises:
            ValueError: the name is taken by another object or is no plain name.
        """
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"{name!r} cannot be the name of a {self.kind}: use letters, digits, _ - .")

        def add(thing: T) -> T:
            known = self._objects.get(name, thing)
            # A module that is imported again (a notebook's autoreload) defines the same object once more.
            same = getattr(known, "__qualname__", known) == getattr(thing, "__qualname__", thing)
            if known is not thing and not (same and known.__module__ == thing.__module__):
                raise ValueError(f"there is a {self.kind} called {name!r} already")
            self._objects[name] = thing
            return thing

        return add

    def names(self) -> list[str]:
        """All registered names in the order of registration; entry points come last."""
        return [*self._objects, *(name for name in self._entry_points() if name not in self._objects)]

    def __contains__(self, name: str) -> bool:
        """Whether the name is registered, here or by an installed package."""
        return name in self._objects or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """The object called `name`.

        Raises:
            UsageError: there is none.
            UntrustedModuleError: `package.module:Name` names a module that is neither installed nor trusted,
                or a function that is neither registered nor in a trusted module.
            UserError: the module that `package.module:Name` or an entry point names cannot be imported, or
                lacks the object.
        """
        if name in self._objects:
            return self._objects[name]
        for known in self._objects.values():
            if path_of(known) == name:
                return known
        if is_path(name):
            return self._load(name)
        if name in (points := self._entry_points()):
            try:
                self._objects[name] = points[name].load()
            except Exception as error:  # whatever the package does when it is imported
                raise UserError(
                    f"the {self.kind} {name!r} of an installed package does not load: {first_line(error)}"
                ) from error
            return self._objects[name]
        raise unknown(self.kind, name, self.names(), self.elsewhere)

    def name_of(self, thing: T) -> str:
        """The name under which another process finds the object.

        That is the registered name only of what this package or an entry point brings: anything else is
        registered when its module is imported, so that the name must say where it is.
        """
        for name, known in self._objects.items():
            built_in = thing.__module__.partition(".")[0] in ("bnn_tf", "zoo")
            if known is thing and (built_in or name in self._entry_points()):
                return name
        return path_of(thing)

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        if self._group is None:
            return {}
        return {point.name: point for point in importlib.metadata.entry_points(group=self._group)}

    @contextlib.contextmanager
    def temporary(self, replaced: Mapping[str, T | None] | None = None) -> Iterator[None]:
        """Forgets after the body what is registered and trusted in it, for tests and experiments.

        Args:
            replaced: Objects that stand under registered names in the body; `None` hides what a name stands
                for.

        Example:
            >>> shapes = Registry("shape")
            >>> with shapes.temporary({"square": object}):
            ...     shapes.names()
            ['square']
            >>> shapes.names()
            []
        """
        objects, trusted = dict(self._objects), set(_trusted)
        for name, thing in (replaced or {}).items():
            self._objects.pop(name, None)
            if thing is not None:
                self._objects[name] = thing
        try:
            yield
        finally:
            self._objects = objects
            _trusted.clear()
            _trusted.update(trusted)

    def _load(self, name: str) -> T:
        module, _, attribute = name.partition(":")
        what = f"the {self.kind} {name!r}"
        loaded = import_module(module, what)
        try:
            thing = getattr(loaded, attribute)
        except AttributeError:
            raise UserError(f"the module {module!r} has no {attribute!r}") from None
        if self._functions and module not in _trusted and not self._is_registered(thing, name):
            raise UntrustedModuleError(what, module, f"does not register it as a {self.kind}")
        return thing

    def _is_registered(self, thing: T, path: str) -> bool:
        """Whether an object is registered, or is what an entry point names."""
        return any(known is thing for known in self._objects.values()) or any(
            point.value == path for point in self._entry_points().values()
        )
