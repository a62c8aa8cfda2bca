"""Recipes for real-valued networks: teachers, and something to compare with."""

import dataclasses

from zoo.recipes.base import Phase, Recipe

_CIFAR_PHASE = Phase(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    rate_batch_size=128,
    weight_decay=5e-4,
    schedule="cosine",
    schedule_options={"warmup": 5},
)
_CIFAR = Recipe(
    method="real",
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_CIFAR_PHASE,),
    note="ours: the usual training of real-valued networks",
)
_IMAGENET = dataclasses.replace(
    _CIFAR,
    model="resnet34",
    dataset="imagenet2012",
    phases=(
        dataclasses.replace(
            _CIFAR_PHASE,
            epochs=90,
            batch_size=256,
            rate_batch_size=256,
            weight_decay=1e-4,
            decay_only="kernels",
            augmentation="random_resized_crop",
        ),
    ),
    image_size=(224, 224),
    test_batch_size=256,
)

RECIPES: tuple[Recipe, ...] = (
    _CIFAR,
    dataclasses.replace(_CIFAR, model="cifar_resnet18"),
    dataclasses.replace(_CIFAR, dataset="cifar100"),
    _IMAGENET,
    dataclasses.replace(_IMAGENET, model="resnet18"),
    dataclasses.replace(
        _CIFAR,
        dataset="digits",
        normalization="unit",
        phases=(
            dataclasses.replace(
                _CIFAR_PHASE,
                epochs=10,
                batch_size=64,
                rate_batch_size=None,
                augmentation="none",
                weight_decay=1e-4,
            ),
        ),
        note="ours: a teacher in a minute on a laptop",
    ),
)
