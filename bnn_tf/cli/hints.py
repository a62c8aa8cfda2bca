"""What to write in place of an option that a command does not have."""

import difflib
import inspect

import click

from bnn_tf.cli.options import flag

# What people look for and nothing does, by the option that they write for it.
_ABSENT = {
    "early-stopping": "there is no early stopping; --epochs says how long to train",
    "min-delta": "there is no early stopping; --epochs says how long to train",
    "patience": "there is no early stopping; --epochs says how long to train",
}

# What people call an option elsewhere; on the right stand those here, of which a command has one or none.
SYNONYMS = {
    "arch": "model",
    "architecture": "model",
    "augment": "set",
    "batch": "batch-size",
    "batchsize": "batch-size",
    "checkpoint": "resume",
    "classes": "class-names",
    "clip": "clip-norm",
    "clip-grad": "clip-norm",
    "clip-grad-norm": "clip-norm",
    "continue": "resume",
    "data": "data-dir",
    "data-path": "data-dir",
    "decay": "weight-decay",
    "device": "gpus",
    "distill": "teacher",
    "format": "json",
    "fp16": "precision",
    "from": "init-from",
    "gpu": "gpus",
    "grad-clip": "clip-norm",
    "grad-norm": "clip-norm",
    "gradient-clip": "clip-norm",
    "gradient-clipping": "clip-norm",
    "half": "precision",
    "imgsz": "image-size",
    "img-size": "image-size",
    "input-shape": "image-size",
    "resolution": "image-size",
    "grey": "channels",
    "grayscale": "channels",
    "log-dir": "run-dir",
    "logdir": "run-dir",
    "lr-scheduler": "schedule",
    "max-epochs": "epochs",
    "max-grad-norm": "clip-norm",
    "max-norm": "clip-norm",
    "mixed-precision": "precision",
    "name": "run-dir",
    "net": "model",
    "network": "model",
    "num-epochs": "epochs",
    "num-workers": "workers",
    "out": "output run-dir sweep-dir",
    "outdir": "output run-dir sweep-dir",
    "output": "run-dir sweep-dir",
    "output-dir": "output run-dir sweep-dir",
    "pretrained": "init-from",
    "quantize": "int8",
    "random-seed": "seed",
    "samples": "images",
    "save-dir": "run-dir",
    "scheduler": "schedule",
    "size": "input-size",
    "test-batch": "test-batch-size",
    "wd": "weight-decay",
    "weights": "init-from",
    "xla": "jit",
}


def option_hint(name: str, context: click.Context) -> str:
    """The end of a message about an option that does not exist: what to write instead, or nothing."""
    written = name.lstrip("-").replace("_", "-").lower()
    own = [parameter for parameter in context.command.params if isinstance(parameter, click.Option)]
    if written in _ABSENT and any(option.name == "epochs" for option in own):
        return f": {_ABSENT[written]}"
    names = {text.lstrip("-"): flag(option) for option in own for text in (*option.opts, flag(option))}
    settings = _settings({str(option.name) for option in own})
    meant = [word for word in (written, *SYNONYMS.get(written, "").split()) if word in names]
    if not meant and written not in settings:
        meant = difflib.get_close_matches(written, {**settings, **names}, n=1)
    word = meant[0] if meant else written
    if word in names:
        return f"; did you mean {names[word]}?"
    return f"; write --set {settings[word]}=VALUE" if word in settings else ""


def _settings(options: set[str]) -> dict[str, str]:
    """What `--set` takes in a command with these options, by the word that an option would have."""
    if "settings" not in options:
        return {}
    import zoo
    from zoo import recipes
    from zoo.recipes.recipe import FROM_RECIPE

    trains = "recipe" in options  # otherwise `--set` takes options of the method and the network alone
    paths = {path for recipe in recipes.RECIPES for path in recipes.settings(recipe)}
    for name in zoo.list_models():
        parameters = inspect.signature(zoo.get_model(name)).parameters
        hidden = FROM_RECIPE if trains else ("method", "input_shape")
        paths |= {f"model.{option}" for option in parameters if option not in hidden}
    words = {}
    for path in sorted(paths - {"model.OPTION"}, key=lambda path: path.count("."), reverse=True):
        owner, _, word = path.rpartition(".")
        # Settings of one phase have no word; one of all phases goes before an option of the same name.
        if owner in ("method", "model") or trains and owner in ("schedule", ""):
            words[word.replace("_", "-")] = path
    return words
