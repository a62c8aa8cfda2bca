"""Errors that a user can correct, and the words that their messages share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

SYNONYMS = {
    "binary": "bireal",
    "binarynet": "bireal",
    "bnn": "bireal",
    "float": "real",
    "float32": "real",
    "fp32": "real",
    "fullprecision": "real",
    "reactnet": "react_resnet18",
    "resnet50": "bireal_net50",
    "realvalued": "real",
    "sign": "bireal",
    "snn": "subbit",
    "ste": "bireal",
    "xnor": "bireal",
    "xnornet": "bireal",
}
"""What people and papers call a method or a network, without separators; the names on the right are valid."""

RELATIVES = {
    # networks
    "alexnet": "vgg_small",
    "binaryalexnet": "vgg_small",
    "binarydensenet": "quicknet_large",
    "cifarresnet": "cifar_resnet20",
    "convnext": "quicknet_large",
    "deit": "quicknet_large",
    "densenet": "quicknet_large",
    "efficientnet": "quicknet",
    "ghostnet": "quicknet_small",
    "googlenet": "quicknet",
    "inception": "quicknet",
    "lenet": "cifar_resnet20",
    "meliusnet": "quicknet_large",
    "mnasnet": "quicknet_small",
    "mobilenet": "quicknet_small",
    "preactresnet": "cifar_resnet18",
    "reactneta": "react_resnet18",
    "realtobinarynet": "bireal_net18",
    "regnet": "quicknet",
    "resnet": "resnet18",
    "resnet32": "cifar_resnet20",
    "resnet44": "cifar_resnet20",
    "resnet56": "cifar_resnet20",
    "resnet110": "cifar_resnet20",
    "resnext": "bireal_net50",
    "senet": "bireal_net50",
    "shufflenet": "quicknet_small",
    "squeezenet": "quicknet_small",
    "swin": "quicknet_large",
    "vgg": "vgg_small",
    "vit": "quicknet_large",
    "wideresnet": "cifar_resnet18",
    "wrn": "cifar_resnet18",
    "xception": "quicknet",
    "xnornet": "bireal_net18",
    # methods
    "adabin": "recu",
    "binaryconnect": "bireal",
    "bwn": "bireal",
    "dorefa": "bireal",
    "dorefanet": "bireal",
    "irnet": "recu",
    "rbnn": "recu",
    "reactnet": "bireal",
    "realtobinary": "bireal",
}
"""What is nearest in kind and size to methods and networks that are not here, without separators."""

# What lists all names of a kind, where an error has only the first.
_LISTED_BY = {
    "model": "bnn-tf models",
    "method": "bnn-tf recipes",
    "setting": "bnn-tf train … --dry-run --json",
}
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


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that was most likely meant, `None` where none is near.

    Names that are spelled alike but for case and separators come first, then what the name means elsewhere
    (`SYNONYMS`), then the shortest that contains the whole name, then what differs by a digit, then what is
    nearest in kind (`RELATIVES`; a size or version at the end of the name does not count), then what differs
    by few letters.

    Example:
        >>> nearest("resnet20", ["resnet34", "cifar_resnet20"])
        'cifar_resnet20'
        >>> nearest("CIFAR-10", ["cifar100", "cifar10"])
        'cifar10'
        >>> nearest("XNOR-Net", ["recu", "bireal"])
        'bireal'
        >>> nearest("MobileNetV2", ["resnet34", "quicknet_small"])
        'quicknet_small'
    """
    return _nearest(name, list(valid))[0]


def _nearest(name: str, valid: list[str]) -> tuple[str | None, bool]:
    """The nearest name, and whether it is one for something else."""
    plain = {valid_name: re.sub(r"[-_. ]", "", valid_name).lower() for valid_name in valid}
    wanted = re.sub(r"[-_. ]", "", name).lower()
    alike = [valid_name for valid_name, text in plain.items() if text == wanted]
    meant = [n for n in plain if n == SYNONYMS.get(wanted)]
    containing = [n for n, text in plain.items() if len(wanted) >= 3 and wanted in text]
    same = [*alike, *meant, *sorted(containing, key=len)]
    number, letters = re.sub(r"\D", "", wanted), re.sub(r"\d", "", wanted)
    digits = [text for text in plain.values() if number and re.sub(r"\d", "", text) == letters]
    mistyped = difflib.get_close_matches(wanted, digits, n=1, cutoff=0.85)
    same += [n for n, text in plain.items() if text in mistyped]
    family = re.sub(r"(?<=[a-z])[bv]?\d.*", "", wanted)  # of mobilenetv3large, efficientnetb0, vgg16bn
    kin = [n for word in (wanted, family) for n in plain if n == RELATIVES.get(word)]
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


def hint(name: str, valid: Iterable[str]) -> str:
    """The end of a message about a name that does not exist: the nearest valid name, or nothing.

    Example:
        >>> hint("rec", ["bireal", "recu"])
        "; did you mean 'recu'?"
        >>> hint("DoReFa", ["bireal", "recu"])
        "; the nearest here is 'bireal'"
    """
    near, differs = _nearest(name, list(valid))
    if near is None:
        return ""
    return f"; the nearest here is {near!r}" if differs else f"; did you mean {near!r}?"


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest valid name and all of them.

    Of more than sixteen names the first are listed, and the command that lists all of them, if there is one.

    Example:
        >>> str(unknown("method", "rec", ["bireal", "recu"]))
        "there is no method called 'rec'; did you mean 'recu'? (there are: bireal, recu)"
    """
    valid = list(valid)
    names = some(valid, len(valid) if len(valid) <= _FEW else 5) or "none"
    if len(valid) > _FEW and kind in _LISTED_BY:
        names += f"; `{_LISTED_BY[kind]}` lists all"
    return UsageError(f"there is no {kind} called {name!r}{hint(str(name), valid)} (there are: {names})")


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
