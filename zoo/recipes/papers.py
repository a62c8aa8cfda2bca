"""The papers' recipes by method, what this project adds for small data, and how a recipe is looked up.

One table: first the images and phases that recipes share, then the recipes of each method. `note` says where
the settings come from where they are not the paper's alone.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bnn_tf import methods
from bnn_tf.data.images import (
    Flip,
    Images,
    Lighting,
    PadCrop,
    RandomResizedCrop,
    ResizeCrop,
    ResizeShort,
)
from bnn_tf.errors import unknown
from bnn_tf.schedules import Constant, Cosine, Linear, MultiStep
from bnn_tf.values import resolve
from zoo.recipes.recipe import SGD, Adam, CrossEntropy, Distribution, Phase, Recipe

# ------------------------------------------------------------------------------------------- what is shared

CIFAR = Images((PadCrop(4), Flip()), size=(32, 32), normalization="imagenet")
CIFAR_OWN = replace(CIFAR, normalization="cifar")
DIGITS = Images(size=(32, 32), normalization="unit")
IMAGENET = Images((RandomResizedCrop(), Flip()), ResizeShort(), size=(224, 224), normalization="imagenet")
IMAGENET_LIGHTING = replace(IMAGENET, training=(RandomResizedCrop(), Flip(), Lighting(0.1)))
IMAGENET_WIDER = replace(IMAGENET, training=(RandomResizedCrop((0.08, 1.25)), Flip(), Lighting(0.1)))
IMAGENET_PLAIN = replace(IMAGENET, training=(ResizeCrop(), Flip()))

ADAM = Adam(learning_rate=1e-3, rate_batch_size=512)
SMOOTHED = CrossEntropy(label_smoothing=0.1)

# Bi-Real Net's and SNN's real-valued phases, which start as their networks do.
RELU, LEAKY_CLIP, CLIP, SIGN = (
    methods.Real(name, start="pytorch") for name in ("relu", "leaky_clip", "clip", "sign")
)


def _each(recipe: Recipe, field: str, *values: Any) -> tuple[Recipe, ...]:
    """The recipe with each value of a field."""
    return tuple(replace(recipe, **{field: value}) for value in values)


def _unpublished(recipe: Recipe, **changes: Any) -> Recipe:
    return replace(recipe, published_top1=None, published_top5=None, **changes)


# ---------------------------------------------------------------------------------------------- Bi-Real Net

_SCRATCH = Phase(epochs=256, batch_size=512, optimizer=ADAM, schedule=Linear(offset=1), loss=SMOOTHED)
_BIREAL = Recipe(
    method=methods.BiReal(),
    model="bireal_net18",
    dataset="imagenet2012",
    phases=(_SCRATCH,),
    images=IMAGENET_LIGHTING,
    test_batch_size=256,
    published_top1=0.564,
    published_top5=0.795,
    note="recipe A of the released code",
)
_SMALL_ADAM = replace(
    _SCRATCH,
    batch_size=128,
    optimizer=Adam(learning_rate=3e-3, rate_batch_size=128),
    schedule=Linear(offset=0),
)
_BIREAL_CIFAR = Recipe(
    method=methods.BiReal(),
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_SMALL_ADAM,),
    images=CIFAR,
    note="recipe A with CIFAR's augmentation and a higher rate; the paper has no CIFAR result",
)

# Recipe B. The paper gives the fourth and fifth step; epochs and rates of the first three are ours. They have
# no warm-up, which would be all there is of a phase made short.
_REAL_STEP = Phase(
    name="relu",
    epochs=90,
    batch_size=256,
    optimizer=SGD(learning_rate=0.1, weight_decay=1e-4, decay_only="kernels"),
    schedule=Cosine(warmup=0),
    method=RELU,
)
_BINARIZE = Phase(
    name="binarize",
    epochs=20,
    batch_size=128,
    optimizer=SGD(learning_rate=0.01),
    schedule=MultiStep(milestones=(0.5, 0.75)),
    method=methods.BiReal(clip_value=None),
)


def _multistep(binarize: Phase = _BINARIZE) -> tuple[Phase, ...]:
    """The five steps around a fourth one."""
    slower = replace(_REAL_STEP.optimizer, learning_rate=0.01)
    finetune = replace(_REAL_STEP, epochs=20, optimizer=slower)
    return (
        _REAL_STEP,
        replace(finetune, name="leaky_clip", method=LEAKY_CLIP),
        replace(finetune, name="clip", method=CLIP),
        binarize,
        replace(
            binarize,
            name="batch_norm",
            epochs=1,
            schedule=Constant(),
            method=methods.BiReal(clip_value=None, scaled=False),
            binarize_kernels=True,
            trainable="batch_norm",
        ),
    )


_MULTISTEP = replace(
    _BIREAL,
    variant="multistep",
    phases=_multistep(),
    images=IMAGENET_PLAIN,
    note="recipe B, the paper's own five steps; epochs and rates of the first three are ours",
)
_MULTISTEP_CIFAR = replace(
    _BIREAL_CIFAR,
    variant="multistep",
    phases=_multistep(),
    note="recipe B's five steps with CIFAR's augmentation; the paper has no CIFAR result",
)
_QUICK = "with QuickNet's stem and parameter-free shortcuts; no paper trained it"
_QUICKNETS = ("quicknet", "quicknet_small", "quicknet_large")
_LARQS = "on Larq's QuickNet; Larq's own training has other quantizers and is no part of this package"
_SMALL_CIFAR_MODELS = ("cifar_resnet20", "cifar_resnet18", "vgg_small")

BIREAL = (
    _BIREAL,
    replace(_BIREAL, model="bireal_net34", published_top1=0.622, published_top5=0.839),
    replace(
        _BIREAL,
        model="bireal_net50",
        phases=(
            replace(
                _SCRATCH,
                batch_size=256,
                optimizer=Adam(learning_rate=5e-4, rate_batch_size=256),
            ),
        ),
        published_top1=0.626,
        published_top5=0.839,
    ),
    _MULTISTEP,
    replace(
        _MULTISTEP,
        model="bireal_net34",
        phases=_multistep(replace(_BINARIZE, epochs=40, batch_size=1024, optimizer=SGD(learning_rate=0.08))),
        published_top1=0.622,
        published_top5=0.839,
    ),
    *_each(
        _unpublished(_BIREAL, note=f"recipe A on a network {_QUICK}"),
        "model",
        "bireal_net18_quick",
        "bireal_net34_quick",
    ),
    *_each(_unpublished(_BIREAL, note=f"recipe A {_LARQS}"), "model", *_QUICKNETS),
    *_each(_MULTISTEP_CIFAR, "model", *_SMALL_CIFAR_MODELS),
    replace(
        _MULTISTEP_CIFAR,
        dataset="digits",
        images=DIGITS,
        phases=tuple(
            replace(phase, batch_size=64, epochs=epochs)
            for phase, epochs in zip(_multistep(), (10, 5, 5, 10, 1), strict=True)
        ),
        note="not from the paper: recipe B's five steps, short enough to try",
    ),
    *_each(_BIREAL_CIFAR, "model", *_SMALL_CIFAR_MODELS),
    replace(_BIREAL_CIFAR, dataset="cifar100"),
    replace(
        _BIREAL_CIFAR,
        dataset="digits",
        images=DIGITS,
        phases=(replace(_SMALL_ADAM, epochs=25, batch_size=64, optimizer=Adam(learning_rate=3e-3)),),
        note="not from the paper: the embedded default",
        duration="2.5 minutes on two cores of an AMD EPYC",
    ),
)

# ------------------------------------------------------------------------------------------------------ ReCU

_COSINE = Phase(
    epochs=600,
    batch_size=256,
    optimizer=SGD(learning_rate=0.1, weight_decay=5e-4),
    schedule=Cosine(warmup=5),
)
_COSINE_DIGITS = replace(
    _COSINE, epochs=30, batch_size=64, optimizer=SGD(learning_rate=0.1, weight_decay=1e-4)
)
_RECU = Recipe(
    method=methods.ReCU(),
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_COSINE,),
    images=CIFAR,
    published_top1=0.875,
    note="the paper's settings",
)
_RECU_IMAGENET = replace(
    _RECU,
    model="resnet18",
    dataset="imagenet2012",
    phases=(
        replace(
            _COSINE,
            epochs=200,
            batch_size=512,
            optimizer=SGD(learning_rate=0.1, rate_batch_size=512, weight_decay=1e-4, decay_only="main_path"),
        ),
    ),
    images=IMAGENET,
    test_batch_size=256,
    published_top1=0.6098,
    published_top5=0.8257,
)
_STAGE = Phase(
    name="activations",
    epochs=256,
    batch_size=512,
    optimizer=ADAM,
    schedule=Cosine(warmup=5),
    loss=Distribution(),
    method=replace(SIGN, start="kaiming_normal"),
)
_TWO_STAGE = _unpublished(
    _RECU_IMAGENET,
    model="react_resnet18",
    phases=(_STAGE, replace(_STAGE, name="weights", method=None, fresh_variables=("scale", "tau"))),
    images=IMAGENET_LIGHTING,
    variant="two-stage",
    note="the authors' two-stage script: real weights first, then binary, both with a teacher",
)

RECU = (
    _RECU,
    replace(_RECU, model="cifar_resnet18", published_top1=0.928),
    replace(_RECU, model="vgg_small", published_top1=0.922),
    *_each(
        _unpublished(
            _RECU, dataset="cifar100", note="the paper's CIFAR-10 settings; it has no CIFAR-100 result"
        ),
        "model",
        *_SMALL_CIFAR_MODELS,
    ),
    _unpublished(
        _RECU,
        model="cifar_resnet18",
        dataset="tiny_imagenet",
        images=replace(CIFAR, size=(64, 64)),
        note="the paper's CIFAR-10 settings at 64×64; it has no Tiny-ImageNet result",
    ),
    _RECU_IMAGENET,
    replace(_RECU_IMAGENET, model="resnet34", published_top1=0.651, published_top5=0.8578),
    *_each(_TWO_STAGE, "model", "react_resnet18", "react_resnet34"),
    *_each(
        _unpublished(_RECU_IMAGENET, note=f"the paper's ImageNet settings on a network {_QUICK}"),
        "model",
        "resnet18_quick",
        "resnet34_quick",
    ),
    *_each(
        _unpublished(_RECU_IMAGENET, note=f"the paper's ImageNet settings {_LARQS}"),
        "model",
        *_QUICKNETS,
    ),
    *_each(
        replace(_TWO_STAGE, note=f"the authors' two-stage script on a network {_QUICK}"),
        "model",
        "react_resnet18_quick",
        "react_resnet34_quick",
    ),
    _unpublished(
        _RECU,
        dataset="digits",
        images=DIGITS,
        phases=(_COSINE_DIGITS,),
        note="not from the paper: short enough to try",
    ),
)

# ------------------------------------------------------------------------------------------- sub-bit networks

_ACTIVATIONS = Phase(
    name="activations",
    epochs=256,
    batch_size=512,
    optimizer=replace(ADAM, weight_decay=1e-5, decay_only="convolutions"),
    schedule=Linear(offset=1),
    loss=Distribution(),
    method=SIGN,
)


def _sub_bit(first: Phase, second: Phase | None = None) -> tuple[Phase, Phase]:
    """A phase with other weights, and that with sub-bit weights which starts from it, by default alike."""
    fresh = ("codebook", "memory", "step")
    return first, replace(second or first, name="weights", method=None, fresh_variables=fresh)


_SUBBIT = Recipe(
    method=methods.SubBit(bits=5),
    model="react_resnet18",
    dataset="imagenet2012",
    phases=_sub_bit(_ACTIVATIONS),
    images=IMAGENET_LIGHTING,
    test_batch_size=256,
    published_top1=0.621,
    published_top5=0.838,
    note="the paper's settings; the teacher is a real ResNet-34; top-1 63.4 at 6 bits, 60.7 at 4. "
    "The authors later corrected the weight decay of the second step to 0 (weights.weight_decay)",
)
# Codebooks learn on every 25th step only and start at ±1: where epochs are short, a latent pattern needs
# more steps and a higher rate than the paper's to change its sign at all.
_SUBBIT_SMALL = replace(
    _ACTIVATIONS,
    batch_size=128,
    optimizer=replace(_ACTIVATIONS.optimizer, learning_rate=3e-3, rate_batch_size=128),
    schedule=Linear(offset=0),
    loss=SMOOTHED,
)
_SUBBIT_CIFAR = Recipe(
    method=methods.SubBit(bits=5),
    model="cifar_resnet20",
    dataset="cifar10",
    phases=_sub_bit(_SUBBIT_SMALL),
    images=CIFAR,
    note="the paper's optimizer and two steps, with labels in place of a teacher and a higher rate",
)

SUBBIT = (
    _SUBBIT,
    _unpublished(
        _SUBBIT,
        model="react_resnet34",
        note="the paper's settings for ResNet-18; the teacher is a real ResNet-34",
    ),
    *_each(
        _unpublished(_SUBBIT, note=f"the paper's settings on a network {_QUICK}"),
        "model",
        "react_resnet18_quick",
        "react_resnet34_quick",
    ),
    *_each(_unpublished(_SUBBIT, note=f"the paper's settings {_LARQS}"), "model", *_QUICKNETS),
    *_each(_SUBBIT_CIFAR, "model", *_SMALL_CIFAR_MODELS),
    replace(_SUBBIT_CIFAR, dataset="cifar100"),
    replace(
        _SUBBIT_CIFAR,
        dataset="digits",
        images=DIGITS,
        phases=_sub_bit(
            replace(
                _SUBBIT_SMALL,
                epochs=15,
                batch_size=64,
                optimizer=replace(_SUBBIT_SMALL.optimizer, rate_batch_size=None),
            )
        ),
        note="not from the paper: short enough to try",
    ),
)

# ------------------------------------------------------------------------------------------------------ OvSW

# The cosine starts one epoch later than ReCU's, after the last epoch of warm-up, and has a floor.
_OVSW_COSINE = Cosine(warmup=5, delay=1, floor=1e-5)
_OVSW_PHASE = replace(_COSINE, schedule=_OVSW_COSINE)
_OVSW = Recipe(
    method=methods.OvSW(delta=0.04, silence_decay=9e-4),
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_OVSW_PHASE,),
    images=CIFAR_OWN,
    note="the paper's settings",
)
_OVSW_NETWORKS = (
    _OVSW,
    replace(_OVSW, model="cifar_resnet18", model_options={"shortcut": "conv"}),
    replace(_OVSW, model="vgg_small", model_options={"last_activation": "prelu"}),
)
_OVSW_IMAGENET = replace(
    _OVSW,
    method=methods.OvSW(delta=0.01, silence_decay=2e-5),
    model="resnet18",
    dataset="imagenet2012",
    phases=(
        replace(
            _OVSW_PHASE,
            epochs=200,
            batch_size=512,
            optimizer=SGD(learning_rate=0.1, rate_batch_size=512, weight_decay=1e-4, decay_only="kernels"),
        ),
    ),
    images=IMAGENET_WIDER,
    test_batch_size=256,
)

OVSW = (
    *_OVSW_NETWORKS,
    *(replace(recipe, dataset="cifar100") for recipe in _OVSW_NETWORKS),
    *_each(_OVSW_IMAGENET, "model", "resnet18", "resnet34"),
    *_each(
        _unpublished(_OVSW_IMAGENET, note=f"the paper's ImageNet settings on a network {_QUICK}"),
        "model",
        "resnet18_quick",
        "resnet34_quick",
    ),
    *_each(
        _unpublished(_OVSW_IMAGENET, note=f"the paper's ImageNet settings {_LARQS}"),
        "model",
        *_QUICKNETS,
    ),
    replace(
        _OVSW,
        dataset="digits",
        images=DIGITS,
        phases=(replace(_COSINE_DIGITS, schedule=_OVSW_COSINE),),
        note="not from the paper: short enough to try",
    ),
)

# -------------------------------------------------------------------------------- real-valued, and any other

_REAL = Recipe(
    method=methods.Real(),
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(
        replace(
            _COSINE,
            epochs=200,
            batch_size=128,
            optimizer=SGD(learning_rate=0.1, rate_batch_size=128, weight_decay=5e-4),
        ),
    ),
    images=CIFAR,
    note="from no paper: the usual training of real-valued networks",
)
_REAL_IMAGENET = replace(
    _REAL,
    model="resnet34",
    dataset="imagenet2012",
    phases=(
        replace(
            _COSINE,
            epochs=90,
            optimizer=SGD(learning_rate=0.1, rate_batch_size=256, weight_decay=1e-4, decay_only="kernels"),
        ),
    ),
    images=IMAGENET,
    test_batch_size=256,
)
_REAL_DIGITS = replace(
    _REAL,
    dataset="digits",
    images=DIGITS,
    phases=(replace(_COSINE_DIGITS, epochs=10),),
    note="from no paper: a teacher, short enough to try",
)

REAL = (
    *_each(_REAL, "model", "cifar_resnet20", "cifar_resnet18"),
    replace(_REAL, dataset="cifar100"),
    *_each(_REAL_IMAGENET, "model", "resnet34", "resnet18"),
    _REAL_DIGITS,
)

GENERAL = (
    replace(_REAL_DIGITS, phases=(_COSINE_DIGITS,)),
    replace(_REAL, phases=(replace(_COSINE, epochs=200, batch_size=128),)),
    replace(_REAL_IMAGENET, model="resnet18", phases=(replace(_REAL_IMAGENET.phases[0], epochs=100),)),
)
"""For methods that have no recipe of their own: digits, small networks, large networks."""

# ------------------------------------------------------------------------------------------- short budgets

# For 10 to 100 epochs: twice the steps of the papers' batch of 256, no warm-up, and a rate that falls to
# zero along a cosine, so that `epochs` is the only setting that changes with the budget. Random crops join
# the flips from 30 epochs on. Statistics of BatchNorm are measured at the end, because moving averages are
# those of few images and of signs that still flip.
_FAST = Phase(
    epochs=30,
    batch_size=128,
    optimizer=SGD(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
    schedule=Cosine(warmup=0),
    statistics_batches=50,
)
# Decay sets the effective rate of kernels that are standardized, and settles within 1 / (2 · rate · decay)
# steps: in ten epochs 5e-4 has no time to, and ends three (OvSW) to eight points (ReCU) below four times
# as much. Bi-Real's kernels, which are not standardized, gain as much over Adam without decay.
_FAST_DECAY = replace(_FAST, optimizer=replace(_FAST.optimizer, decay_epochs=40))
_FAST_IMAGES = replace(CIFAR, training=(PadCrop(4, from_epochs=30), Flip()))


def _fast(recipe: Recipe, *phases: Phase, variant: str = "fast", remark: str = "") -> tuple[Recipe, ...]:
    """A variant for short budgets of a CIFAR-10 recipe, for the small networks, and that for CIFAR-100."""
    fast = _unpublished(
        recipe,
        variant=variant,
        phases=phases,
        shared_epochs=True,
        images=_FAST_IMAGES,
        note=f"from no paper: for budgets of 10 to 100 epochs{remark}; docs/results.md has what was reached",
    )
    return *_each(fast, "model", *_SMALL_CIFAR_MODELS), replace(fast, dataset="cifar100")


FAST = (
    *_fast(replace(_BIREAL_CIFAR, method=methods.BiReal(start="glorot_normal")), _FAST_DECAY),
    *_fast(_RECU, _FAST_DECAY),
    # A binary network comes first, whose frequent patterns become the codebooks: in ten epochs these do not
    # change (whatever the interval), and random ones would stay random.
    *_fast(
        replace(_SUBBIT_CIFAR, method=methods.SubBit(bits=5, interval=2, codebook="frequent")),
        *_sub_bit(
            replace(_FAST_DECAY, name="binary", epochs=6, method=_OVSW.method),
            replace(_FAST_DECAY, epochs=24),
        ),
    ),
    *_fast(_OVSW, _FAST_DECAY),
    *_fast(_REAL, _FAST),
    # A fifth of the epochs with real weights and clipped activations gives OvSW 2.6 points in ten epochs, and
    # takes half a point from Bi-Real Net.
    *_fast(
        _OVSW,
        replace(_FAST_DECAY, name="clip", epochs=6, method=methods.Real("clip")),
        replace(_FAST_DECAY, epochs=24),
        variant="clip-first",
        remark=", the first fifth with real weights and clipped activations",
    ),
)

RECIPES: tuple[Recipe, ...] = (*BIREAL, *RECU, *SUBBIT, *OVSW, *REAL, *FAST)

# ------------------------------------------------------------------------------------------------- looking up

RESULTS = Path(__file__).with_name("results.json")
"""What recipes reached here, by `scripts/make_results.py`; no settings are read from it."""
DEFAULT_DATASET = "digits"
_LARGE = 96  # pixels; networks that take such images reduce them too fast for CIFAR's


def find(
    method: str | methods.Method,
    model: str | None = None,
    dataset: str | None = None,
    variant: str = "default",
) -> Recipe:
    """The recipe for a method, network and dataset, the paper's where there is one.

    Without a dataset it is the one that the model is usually trained on, without a model as well the
    embedded default. Where no recipe names the combination, the method's recipe for the same network, or
    else for the same kind of network, stands in with the names changed, and its note says so. A method
    without any recipe gets those of the class that it derives from, or a general one where there are none.

    Args:
        method: A name, `package.module:Class`, or a value, whose options are then those of the recipe.
        model: Name of the architecture, or `package.module:function`.
        dataset: Name of the dataset.
        variant: Which of several recipes for the same combination.

    Raises:
        UsageError: an unknown method, model or variant.

    Example:
        >>> find("recu", dataset="cifar10").published_top1
        0.875
    """
    chosen = resolve(methods.Method, method)
    if model is not None:
        _is_large(model)  # the model exists
    return _find(chosen, not isinstance(method, str), model, dataset, variant)


def variants(method: str | methods.Method) -> list[str]:
    """The variants of a method's recipes.

    Example:
        >>> variants("ovsw")
        ['default', 'fast', 'clip-first']
    """
    return list(dict.fromkeys(recipe.variant for recipe in _of(resolve(methods.Method, method)) or GENERAL))


def original(recipe: Recipe, variant: str | None = None) -> Recipe:
    """The package's recipe for a recipe's method, network and dataset, to compare it with.

    Args:
        recipe: The recipe; that of a file may have a variant of its own, which stands for the default.
        variant: Another variant.

    Example:
        >>> original(replace(find("recu", dataset="cifar10"), variant="mine")).variant
        'default'
    """
    name = methods.METHODS.name_of(type(recipe.method))
    wanted = recipe.variant if variant is None else variant
    return find(name, recipe.model, recipe.dataset, wanted if wanted in variants(name) else "default")


def _of(method: methods.Method) -> list[Recipe]:
    """The recipes of a method's class, or else of the nearest that it derives from."""
    for cls in type(method).__mro__:
        own = [recipe for recipe in RECIPES if type(recipe.method) is cls]
        if own:
            return own
    return []


def _find(
    chosen: methods.Method, as_it_is: bool, model: str | None, dataset: str | None, variant: str
) -> Recipe:
    """What `find` gives for a method whose options are to stay as they are, or are to be the recipe's."""
    own = _of(chosen)
    general = not own and variant == "default"
    candidates = [recipe for recipe in (GENERAL if general else own) if recipe.variant == variant]
    if not candidates:
        raise unknown(f"variant of {chosen.name}'s recipes", variant, variants(chosen))
    if dataset is None:
        usual = (r.dataset for r in candidates if r.model == model)
        small = DEFAULT_DATASET if model is None else "imagenet2012" if _is_large(model) else "cifar10"
        dataset = small if model is None or general else next(usual, DEFAULT_DATASET)
    best = max(candidates, key=lambda recipe: _fit(recipe, model, dataset))
    if general:
        best = replace(best, method=chosen)
    exact = best.dataset == dataset and model in (None, best.model)
    if not exact or general:
        best = _stand_in(best, model or best.model, dataset, general)
    if not general and type(best.method) is not type(chosen):
        method = chosen if as_it_is else _with_options_of(best.method, chosen)
        note = f"{chosen.name} has no recipes; of {best.method.name}, from which it derives: {best.note}"
        return _unpublished(best, method=method, note=note)
    if as_it_is and best.method != chosen:
        best = _unpublished(best, method=chosen)
    return best


def _with_options_of(parent: methods.Method, method: methods.Method) -> methods.Method:
    """A method with the options of a recipe for a class that it derives from, but for its own defaults."""
    usual = type(parent)()
    names = [field.name for field in fields(parent)]
    inherited = [name for name in names if getattr(method, name) == getattr(usual, name)]
    return replace(method, **{name: getattr(parent, name) for name in inherited})


def for_own_images(recipe: Recipe) -> Recipe:
    """The `fast` variant of a default recipe, where the method has one for such a network; else the recipe.

    Example:
        >>> for_own_images(find("recu", "cifar_resnet20", "folder")).variant
        'fast'
        >>> for_own_images(find("recu", "resnet18", "folder")).variant
        'default'
    """
    if _is_large(recipe.model) or "fast" not in variants(recipe.method):
        return recipe
    fast = _find(recipe.method, False, recipe.model, recipe.dataset, "fast")
    return fast if fast.images.size == recipe.images.size else recipe


def _is_large(model: str) -> bool:
    """Whether an architecture is for large images, by the input size that it declares.

    Raises:
        UsageError: there is no such architecture.
    """
    from zoo.blocks import get_model

    size = inspect.signature(get_model(model)).parameters.get("input_shape")
    if size is None or not isinstance(size.default, tuple):
        return False
    return all((pixels or 0) >= _LARGE for pixels in size.default[:2])


def _fit(recipe: Recipe, model: str | None, dataset: str) -> tuple[bool, ...]:
    """How well a recipe fits; compared from left to right."""
    same_kind = model is None or _is_large(recipe.model) == _is_large(model)
    return (
        same_kind and recipe.dataset == dataset,
        model is not None and recipe.model == model,
        same_kind,
        recipe.dataset == "cifar10",
    )


def _stand_in(recipe: Recipe, model: str, dataset: str, general: bool) -> Recipe:
    """The recipe for another network or dataset."""
    origin = f"{recipe.method.name} × {recipe.model} × {recipe.dataset}"
    return _unpublished(
        recipe,
        model=model,
        dataset=dataset,
        model_options=recipe.model_options if model == recipe.model else {},
        note="from no paper: general settings, for a method without a recipe of its own"
        if general
        else f"there is no recipe for this combination; these are the settings of {origin}",
    )
