"""Errors that are the user's to mend."""


class UserError(Exception):
    """A wrong input or option; its message is one clear sentence and says what to do.

    The command line prints the message alone and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(UserError):
    """A wrong option or argument (exit code 2)."""

    exit_code = 2
