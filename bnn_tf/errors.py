"""Errors that a user can correct, and the words that their messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A wrong input, option or file; the message is one clear sentence that says what to do.

    The command line prints the message alone and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(UserError):
    """A wrong option or argument (exit code 2)."""

    exit_code = 2


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest valid name and all of them.

    Example:
        >>> str(unknown("method", "rec", ["bireal", "recu"]))
        "there is no method called 'rec'; did you mean 'recu'? (there are: bireal, recu)"
    """
    valid = list(valid)
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"there is no {kind} called {name!r}{hint} (there are: {', '.join(valid)})")


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message, or the name of its class where it has none.

    Example:
        >>> first_line(ValueError("no such file\n[[trace]]"))
        'no such file'
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def some(names: Iterable[object], count: int = 5) -> str:
    """The first names of a list for a message, and how many more there are.

    Example:
        >>> some(["a", "b", "c"], count=2)
        'a, b and 1 more'
    """
    names = [str(name) for name in names]
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
