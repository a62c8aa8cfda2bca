"""Recipes of sub-bit networks: binary activations first, then sub-bit weights."""

import dataclasses

from zoo.recipes.base import Phase, Recipe

_ACTIVATIONS = Phase(
    name="activations",
    epochs=256,
    batch_size=512,
    optimizer="adam",
    learning_rate=1e-3,
    rate_batch_size=512,
    weight_decay=1e-5,
    decay_only="kernels",
    schedule="linear",
    loss="distribution",
    augmentation="random_resized_crop",
    lighting=0.1,
    method={"name": "real", "activation_name": "sign"},
)


def _both(activations: Phase) -> tuple[Phase, Phase]:
    """The phase with real weights and the one with sub-bit weights that starts from it."""
    fresh = ("codebook", "memory", "step")
    return activations, dataclasses.replace(activations, name="weights", method=None, fresh_variables=fresh)


_IMAGENET = Recipe(
    method="subbit",
    model="react_resnet18",
    dataset="imagenet2012",
    phases=_both(_ACTIVATIONS),
    method_options={"bits": 5},
    image_size=(224, 224),
    test_batch_size=256,
    published_top1=62.1,
    published_top5=83.8,
    note="the paper's settings; its teacher is a real ResNet-34 (--teacher); top-1 63.4 at 6 bits, 60.7 at 4",
)
# Codebooks learn on every 25th step only and start at ±1: where epochs are short, a latent pattern needs
# more steps and a higher rate than the paper's to change its sign at all.
_SMALL = dataclasses.replace(
    _ACTIVATIONS,
    batch_size=128,
    learning_rate=3e-3,
    rate_batch_size=128,
    schedule_options={"offset": 0},
    loss="cross_entropy",
    label_smoothing=0.1,
    augmentation="pad_crop_flip",
    lighting=0.0,
)
_CIFAR = Recipe(
    method="subbit",
    model="cifar_resnet20",
    dataset="cifar10",
    phases=_both(_SMALL),
    method_options={"bits": 5},
    note="ours: the paper's optimizer and two steps, with labels in place of a teacher and a higher rate",
)

RECIPES: tuple[Recipe, ...] = (
    _IMAGENET,
    dataclasses.replace(
        _IMAGENET,
        model="react_resnet34",
        published_top1=None,
        published_top5=None,
        note="the paper's settings for ResNet-18; its teacher is a real ResNet-34 (--teacher)",
    ),
    _CIFAR,
    dataclasses.replace(_CIFAR, model="cifar_resnet18"),
    dataclasses.replace(_CIFAR, model="vgg_small"),
    dataclasses.replace(_CIFAR, dataset="cifar100"),
    dataclasses.replace(
        _CIFAR,
        dataset="digits",
        normalization="unit",
        phases=_both(
            dataclasses.replace(
                _SMALL,
                epochs=15,
                batch_size=64,
                learning_rate=3e-3,
                rate_batch_size=None,
                augmentation="none",
                schedule_options={"offset": 0},
            )
        ),
        note="ours: small enough for two minutes on a laptop",
    ),
)
