"""How signals (Ctrl-C, `kill`, a closed terminal) stop a training."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from bnn_tf.errors import UserError


class StoppedError(UserError):
    """A signal stopped the training; `exit_code` is 128 + its number.

    Example:
        >>> StoppedError("stopped (SIGTERM) after epoch 3 of 9", signal.SIGTERM).exit_code
        143
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def signal_name(number: int) -> str:
    """A signal as users know it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class SignalReceived(BaseException):  # noqa: N818  (no error)
    """Ends what is under way because of a signal.

    No `Exception`, because TensorFlow catches those while it traces a function: it wraps them in pages of
    text, or goes on without them.
    """


class Signals:
    """Takes SIGINT, SIGTERM and SIGHUP while the body runs (in a main thread).

    Attributes:
        received: The number of the first signal.
        hold: Whether there is something to finish and save first; otherwise a signal ends the body at once,
            with `StoppedError`.

    Example:
        >>> with Signals() as signals:
        ...     signals.hold = True
        ...     signal.raise_signal(signal.SIGTERM)
        >>> signals.received == signal.SIGTERM
        True
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.hold = False
        self._at_once = False
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Signals:
        sys.unraisablehook = self._unraisable
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._hook
        # Whatever comes out of the middle of a trace after a signal is a consequence of it.
        if self._at_once and self.received and error is not None and not isinstance(error, UserError):
            raise StoppedError(
                f"stopped ({signal_name(self.received)}); there was nothing new to save yet", self.received
            ) from None

    def _unraisable(self, lost: Any) -> None:
        """Where the signal came in a destructor, which cannot raise: the training stops after its step."""
        if lost.exc_type is not SignalReceived:
            self._hook(lost)

    def _receive(self, number: int, frame: object) -> None:
        if self.received is not None:  # the second ends the process at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = number
        if not self.hold:
            self._at_once = True
            raise SignalReceived
