"""Errors that a user can correct, and the words that their messages share."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping

_FEW = 16  # names that an error still lists


class UserError(ValueError):
    """A wrong input, option or file; the message is one clear sentence that says what to do.

    The command line prints the message alone and exits with `exit_code`.

    Example:
        >>> UserError("the folder is empty").exit_code
        1
    """

    exit_code = 1
    at_once = False
    """Whether the process should not wait for what takes it down in order."""


class UsageError(UserError):
    """A wrong option or argument (exit code 2).

    Example:
        >>> isinstance(UsageError("there is no such option"), ValueError), UsageError.exit_code
        (True, 2)
    """

    exit_code = 2


class ClaimedError(UserError):
    """Another process holds what this one wants to write, such as a run that it trains.

    Example:
        >>> ClaimedError("another process is training runs/1").exit_code
        1
    """


class AdvisingError(UserError):
    """An error whose message ends with advice for programs, in whose place the command line gives its own.

    Attributes:
        reason: What is wrong, without the advice.
        advice: What a program can do about it; empty where there is nothing.

    Example:
        >>> str(AdvisingError("the folder is in use", "pass force=True"))
        'the folder is in use; pass force=True'
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason, self.advice = reason, advice


class UnsafeModelError(AdvisingError):
    """A saved model that is not loaded, because it could do more than describe a network.

    Example:
        >>> str(UnsafeModelError("the model holds a Lambda layer"))
        'the model holds a Lambda layer; load it with safe=False only if you trust its author'
    """

    def __init__(
        self, reason: str, advice: str = "load it with safe=False only if you trust its author"
    ) -> None:
        super().__init__(reason, advice)


class UnknownClassError(UnsafeModelError):
    """A saved model that names a class or function which nobody has made known.

    Attributes:
        module: The module in which the file says it is; `None` where the file says nothing.

    Example:
        >>> str(UnknownClassError("the layer 'conv' names 'Mine'", "Mine"))
        "the layer 'conv' names 'Mine'; pass it as custom_objects={'Mine': …}"
    """

    def __init__(self, reason: str, name: str, module: str | None = None) -> None:
        super().__init__(reason, f"pass it as custom_objects={{{name!r}: …}}")
        self.module = module


class UntrustedModuleError(AdvisingError):
    """An object that is not loaded, because the user has not named its module, and a file alone may not.

    Args:
        what: The object; `None` where the module itself is wanted.
        module: Its module.
        problem: Why the module must be named: what the module is or does.

    Attributes:
        module: The module.

    Example:
        >>> UntrustedModuleError("the method 'mine:Damped'", "mine").reason
        "the method 'mine:Damped' is in the module 'mine', which is not installed"
    """

    def __init__(self, what: str | None, module: str, problem: str = "is not installed") -> None:
        where = f"the module {module!r}"
        reason = f"{what} is in {where}, which {problem}" if what else f"{where} {problem}"
        super().__init__(reason, f"bnn_tf.registry.trust({module!r}) allows it to be imported")
        self.module = module


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """What names of a kind are for those who know other software; all without separators, in lower case.

    Args:
        synonyms: The valid names of things that have another name there.
        relatives: What is nearest in kind and size to things that are not here.
        listed_by: What lists all names, where a message has only the first.

    Example:
        >>> fruits = Elsewhere(synonyms={"pomme": "apple"}, relatives={"quince": "pear"})
        >>> nearest("Quince", ["apple", "pear"], fruits)
        'pear'
    """

    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    relatives: Mapping[str, str] = dataclasses.field(default_factory=dict)
    listed_by: str | None = None


def nearest(name: str, valid: Iterable[str], elsewhere: Elsewhere = Elsewhere()) -> str | None:
    """The valid name that was most likely meant, `None` where none is near.

    Names that are spelled alike but for case and separators come first, then what the name means elsewhere,
    then the shortest that contains the whole name, then what differs by a digit, then what is nearest in kind
    (a size or version at the end of the name does not count), then what differs by few letters.

    Example:
        >>> nearest("resnet20", ["resnet34", "cifar_resnet20"])
        'cifar_resnet20'
        >>> nearest("CIFAR-10", ["cifar100", "cifar10"])
        'cifar10'
    """
    return _nearest(name, list(valid), elsewhere)[0]


def _nearest(name: str, valid: list[str], elsewhere: Elsewhere) -> tuple[str | None, bool]:
    """The nearest name, and whether it is one for something else."""
    plain = {valid_name: re.sub(r"[-_. ]", "", valid_name).lower() for valid_name in valid}
    wanted = re.sub(r"[-_. ]", "", name).lower()
    alike = [valid_name for valid_name, text in plain.items() if text == wanted]
    meant = [n for n in plain if n == elsewhere.synonyms.get(wanted)]
    containing = [n for n, text in plain.items() if len(wanted) >= 3 and wanted in text]
    same = [*alike, *meant, *sorted(containing, key=len)]
    number, letters = re.sub(r"\D", "", wanted), re.sub(r"\d", "", wanted)
    digits = [text for text in plain.values() if number and re.sub(r"\d", "", text) == letters]
    mistyped = difflib.get_close_matches(wanted, digits, n=1, cutoff=0.85)
    same += [n for n, text in plain.items() if text in mistyped]
    family = re.sub(r"(?<=[a-z])[bv]?\d.*", "", wanted)  # of mobilenetv3large, efficientnetb0, vgg16bn
    kin = [n for word in (wanted, family) for n in plain if n == elsewhere.relatives.get(word)]
    if same or kin:
        return (same or kin)[0], not same
    numbers = {n: re.sub(r"\D", "", text) for n, text in plain.items()}
    texts = {
        text: n
        for n, text in plain.items()
        if not number or numbers[n] in ("", number) or re.sub(r"\d", "", text) == letters
    }
    close = difflib.get_close_matches(wanted, texts, n=1, cutoff=0.7)
    close += [text for text in texts if sorted(text) == sorted(wanted)]  # of `sdg` two thirds are alike
    return (texts[close[0]] if close else None), False


def hint(name: str, valid: Iterable[str], elsewhere: Elsewhere = Elsewhere()) -> str:
    """The end of a message about a name that does not exist: the nearest valid name, or nothing.

    Example:
        >>> hint("rec", ["bireal", "recu"])
        "; did you mean 'recu'?"
        >>> hint("DoReFa", ["bireal", "recu"], Elsewhere(relatives={"dorefa": "bireal"}))
        "; the nearest here is 'bireal'"
    """
    near, differs = _nearest(name, list(valid), elsewhere)
    if near is None:
        return ""
    return f"; the nearest here is {near!r}" if differs else f"; did you mean {near!r}?"


def unknown(kind: str, name: str, valid: Iterable[str], elsewhere: Elsewhere = Elsewhere()) -> UsageError:
    """The error for a name that does not exist, with the nearest valid name and all of them.

    Of more than sixteen names the first are listed, and what lists all of them, if that is known.

    Example:
        >>> str(unknown("method", "rec", ["bireal", "recu"]))
        "there is no method called 'rec'; did you mean 'recu'? (there are: bireal, recu)"
    """
    valid = list(valid)
    names = some(valid, len(valid) if len(valid) <= _FEW else 5) or "none"
    if len(valid) > _FEW and elsewhere.listed_by is not None:
        names += f"; `{elsewhere.listed_by}` lists all"
    near = hint(str(name), valid, elsewhere)
    return UsageError(f"there is no {kind} called {name!r}{near} (there are: {names})")


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
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:count])
    return shown if len(texts) <= count else f"{shown} and {len(texts) - count} more"
