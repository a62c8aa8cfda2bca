"""Recipes of OvSW: CIFAR-10, CIFAR-100, ImageNet."""

import dataclasses

from zoo.recipes.base import Phase, Recipe

_CIFAR_PHASE = Phase(
    epochs=600,
    batch_size=256,
    learning_rate=0.1,
    weight_decay=5e-4,
    schedule="cosine",
    schedule_options={"warmup": 5, "delay": 1, "floor": 1e-5},
)
_CIFAR = Recipe(
    method="ovsw",
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_CIFAR_PHASE,),
    method_options={"delta": 0.04, "silence_decay": 9e-4},
    normalization="cifar",
    note="the paper's settings",
)
_NETWORKS = (
    _CIFAR,
    dataclasses.replace(_CIFAR, model="cifar_resnet18", model_options={"shortcut": "conv"}),
    dataclasses.replace(_CIFAR, model="vgg_small", model_options={"last_activation": "prelu"}),
)
_IMAGENET = Recipe(
    method="ovsw",
    model="resnet18",
    dataset="imagenet2012",
    phases=(
        dataclasses.replace(
            _CIFAR_PHASE,
            epochs=200,
            batch_size=512,
            rate_batch_size=512,
            weight_decay=1e-4,
            decay_only="kernels",
            augmentation="random_resized_crop",
            lighting=0.1,
        ),
    ),
    method_options={"delta": 0.01, "silence_decay": 2e-5},
    image_size=(224, 224),
    test_batch_size=256,
    note="the paper's settings",
)

RECIPES: tuple[Recipe, ...] = (
    *_NETWORKS,
    *(dataclasses.replace(recipe, dataset="cifar100") for recipe in _NETWORKS),
    _IMAGENET,
    dataclasses.replace(_IMAGENET, model="resnet34"),
    dataclasses.replace(
        _CIFAR,
        dataset="digits",
        normalization="unit",
        phases=(
            dataclasses.replace(
                _CIFAR_PHASE, epochs=30, batch_size=64, augmentation="none", weight_decay=1e-4
            ),
        ),
        note="ours: small enough for two minutes on a laptop",
    ),
)
