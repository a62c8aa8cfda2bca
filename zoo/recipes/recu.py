"""Recipes of ReCU: CIFAR, Tiny-ImageNet, ImageNet, and the two-stage ImageNet training."""

import dataclasses

from zoo.recipes.base import Phase, Recipe

_CIFAR_PHASE = Phase(
    epochs=600,
    batch_size=256,
    learning_rate=0.1,
    weight_decay=5e-4,
    schedule="cosine",
    schedule_options={"warmup": 5},
)
_CIFAR = Recipe(
    method="recu",
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_CIFAR_PHASE,),
    published_top1=87.5,
    note="the paper's settings",
)
_IMAGENET_PHASE = dataclasses.replace(
    _CIFAR_PHASE,
    epochs=200,
    batch_size=512,
    rate_batch_size=512,
    weight_decay=1e-4,
    decay_only="kernels",
    augmentation="random_resized_crop",
)
_IMAGENET = Recipe(
    method="recu",
    model="resnet18",
    dataset="imagenet2012",
    phases=(_IMAGENET_PHASE,),
    image_size=(224, 224),
    test_batch_size=256,
    published_top1=60.98,
    published_top5=82.57,
    note="the paper's settings",
)
_STAGE = Phase(
    name="activations",
    epochs=256,
    batch_size=512,
    optimizer="adam",
    learning_rate=1e-3,
    rate_batch_size=512,
    schedule="cosine",
    schedule_options={"warmup": 5},
    loss="distribution",
    augmentation="random_resized_crop",
    lighting=0.1,
    method={"name": "real", "activation_name": "sign"},
)
_TWO_STAGE = dataclasses.replace(
    _IMAGENET,
    model="react_resnet18",
    phases=(
        _STAGE,
        dataclasses.replace(_STAGE, name="weights", method=None, fresh_variables=("scale", "tau")),
    ),
    published_top1=None,
    published_top5=None,
    variant="two-stage",
    note="the authors' two-stage script: real weights first, then binary, both with a --teacher",
)

RECIPES: tuple[Recipe, ...] = (
    _CIFAR,
    dataclasses.replace(_CIFAR, model="cifar_resnet18", published_top1=92.8),
    dataclasses.replace(_CIFAR, model="vgg_small", published_top1=92.2),
    *(
        dataclasses.replace(
            _CIFAR,
            model=model,
            dataset="cifar100",
            published_top1=None,
            note="the paper's CIFAR-10 settings; it has no CIFAR-100 result",
        )
        for model in ("cifar_resnet20", "cifar_resnet18", "vgg_small")
    ),
    dataclasses.replace(
        _CIFAR,
        model="cifar_resnet18",
        dataset="tiny_imagenet",
        image_size=(64, 64),
        published_top1=None,
        note="the paper's CIFAR-10 settings at 64×64; it has no Tiny-ImageNet result",
    ),
    _IMAGENET,
    dataclasses.replace(_IMAGENET, model="resnet34", published_top1=65.10, published_top5=85.78),
    _TWO_STAGE,
    dataclasses.replace(_TWO_STAGE, model="react_resnet34"),
    dataclasses.replace(
        _CIFAR,
        dataset="digits",
        normalization="unit",
        phases=(
            dataclasses.replace(
                _CIFAR_PHASE, epochs=30, batch_size=64, augmentation="none", weight_decay=1e-4
            ),
        ),
        published_top1=None,
        note="ours: small enough for two minutes on a laptop",
    ),
)
