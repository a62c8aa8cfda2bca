"""Errors that are the user's to mend."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A wrong input or option; its message is one clear sentence and says what to do.

    The command line prints the message alone and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(UserError):
    """A wrong option or argument (exit code 2)."""

    exit_code = 2


def unknown(what: str, name: str, valid: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest and all valid ones."""
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"there is no {what} called {name!r}{hint} (there are: {', '.join(valid)})")
