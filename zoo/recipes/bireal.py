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
    _SCRATCH,
    batch_size=128,
    learning_rate=3e-3,
    rate_batch_size=128,
    schedule_options={"offset": 0},
    augmentation="pad_crop_flip",
    lighting=0.0,
)
_CIFAR = Recipe(
    method="bireal",
    model="cifar_resnet20",
    dataset="cifar10",
    phases=(_SMALL,),
    note="ours: recipe A with CIFAR's augmentation and a higher rate; the paper has no CIFAR result",
)

# Recipe B. The paper gives the fourth and fifth step; epochs and rates of the first three are ours. They have
# no warm-up, which would be all there is of a phase made short with --epochs.
_RELU = Phase(
    name="relu",
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    schedule_options={"warmup": 0},
    weight_decay=1e-4,
    decay_only="kernels",
    augmentation="resize_crop_flip",
    method={"name": "real", "activation_name": "relu"},
)
_BINARIZE = Phase(
    name="binarize",
    epochs=20,
    batch_size=128,
    learning_rate=0.01,
    schedule="multistep",
    schedule_options={"milestones": (0.5, 0.75)},
    augmentation="resize_crop_flip",
    method={"name": "bireal", "clip_value": None},
)


def _multistep(binarize: Phase, augmentation: str) -> tuple[Phase, ...]:
    """The five steps around a given fourth one."""
    relu = dataclasses.replace(_RELU, augmentation=augmentation)
    finetune = dataclasses.replace(relu, epochs=20, learning_rate=0.01)
    binarize = dataclasses.replace(binarize, augmentation=augmentation)
    return (
        relu,
        dataclasses.replace(
            finetune, name="leaky_clip", method={"name": "real", "activation_name": "leaky_clip"}
        ),
        dataclasses.replace(finetune, name="clip", method={"name": "real", "activation_name": "clip"}),
        binarize,
        dataclasses.replace(
            binarize,
            name="batch_norm",
            epochs=1,
            schedule="constant",
            schedule_options={},
            method={**(binarize.method or {}), "scaled": False},
            binarize_kernels=True,
            trainable="batch_norm",
        ),
    )


_IMAGENET_MULTISTEP = dataclasses.replace(
    _IMAGENET,
    variant="multistep",
    phases=_multistep(_BINARIZE, "resize_crop_flip"),
    note="recipe B, the paper's own five steps; epochs and rates of the first three are ours",
)
_CIFAR_MULTISTEP = dataclasses.replace(
    _CIFAR,
    variant="multistep",
    phases=_multistep(_BINARIZE, "pad_crop_flip"),
    note="recipe B's five steps with CIFAR's augmentation; the paper has no CIFAR result",
)
_DIGITS_MULTISTEP = dataclasses.replace(
    _CIFAR_MULTISTEP,
    dataset="digits",
    normalization="unit",
    phases=tuple(
        dataclasses.replace(phase, batch_size=64, epochs=epochs)
        for phase, epochs in zip(_multistep(_BINARIZE, "none"), (10, 5, 5, 10, 1), strict=True)
    ),
    note="ours: recipe B's five steps in a few minutes on a laptop",
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
    _IMAGENET_MULTISTEP,
    dataclasses.replace(
        _IMAGENET_MULTISTEP,
        model="bireal_net34",
        phases=_multistep(
            dataclasses.replace(
                _BINARIZE,
                epochs=40,
                batch_size=1024,
                learning_rate=0.08,
            ),
            "resize_crop_flip",
        ),
        published_top1=62.2,
        published_top5=83.9,
    ),
    *(
        dataclasses.replace(_CIFAR_MULTISTEP, model=model)
        for model in ("cifar_resnet20", "cifar_resnet18", "vgg_small")
    ),
    _DIGITS_MULTISTEP,
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
                epochs=25,
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
