"""Recipes of Bi-Real Net: from scratch (recipe A) and the paper's five steps (recipe B)."""

import dataclasses

from zoo.recipes.base import Phase, Recipe

_SCRATCH = Phase(
    epochs=256,
    batch_size=512,
    optimizer="adam",
    learning_rate=1e-3,
    rate_batch_size=512,
    schedule="linear",
    label_smoothing=0.1,
    augmentation="random_resized_crop",
    lighting=0.1,
)
_IMAGENET = Recipe(
    method="bireal",
    model="bireal_net18",
    dataset="imagenet2012",
    phases=(_SCRATCH,),
    image_size=(224, 224),
    test_batch_size=256,
    published_top1=56.4,
    published_top5=79.5,
    note="recipe A of the released code",
)
_SMALL = dataclasses.replace(
    _SCRATCH, batch_size=256, rate_batch_size=256, augmentation="pad_crop_flip", lighting=0.0
)
_CIFAR = Recipe(
    method="bireal",
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_SMALL,),
    note="ours: recipe A's optimizer and schedule with CIFAR's augmentation; the paper has no CIFAR result",
)

RECIPES: tuple[Recipe, ...] = (
    _IMAGENET,
    dataclasses.replace(_IMAGENET, model="bireal_net34", published_top1=62.2, published_top5=83.9),
    dataclasses.replace(
        _IMAGENET,
        model="bireal_net50",
        phases=(dataclasses.replace(_SCRATCH, batch_size=256, learning_rate=5e-4, rate_batch_size=256),),
        published_top1=62.6,
        published_top5=83.9,
    ),
    _CIFAR,
    dataclasses.replace(_CIFAR, model="cifar_resnet18"),
    dataclasses.replace(_CIFAR, model="vgg_small"),
    dataclasses.replace(_CIFAR, dataset="cifar100"),
    dataclasses.replace(
        _CIFAR,
        dataset="digits",
        normalization="unit",
        phases=(
            dataclasses.replace(
                _SMALL,
                epochs=20,
                batch_size=64,
                learning_rate=3e-3,
                rate_batch_size=None,
                augmentation="none",
                schedule_options={"offset": 0},
            ),
        ),
        note="ours: the embedded default, small enough for a minute on a laptop",
    ),
)
