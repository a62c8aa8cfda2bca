"""The names of the four papers' PyTorch networks and the layers here that they stand for, as one table.

Every name is a path of modules and a field: `layer2.0.conv1.weight`. The path becomes a layer
(`stage2_block1a_conv`) of some kind, the field one of its variables (`kernel`).
"""

import re

Key = tuple[str, str]

_BATCH_NORM = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
FIELDS: dict[str, dict[str, str]] = {
    "conv": {
        "weight": "kernel",
        "weights": "kernel",
        "tau": "tau",
        "alpha": "scale",
        "scaling_factor": "scale",
        "patterns": "codebook",
        "memory": "memory",
    },
    "bn": {"weight": "gamma", **_BATCH_NORM},
    "shift": {"bias": "bias"},
    "prelu": {"weight": "alpha"},
    "dense": {"weight": "kernel", "bias": "bias"},
}
"""The variable of each field, by kind of layer."""

Rule = tuple[str, str, str]  # pattern of the path, kind of layer, its name here

_TRUNK: tuple[Rule, ...] = (
    (r"conv[01]?", "conv", "stem_conv"),
    (r"bn[01]?", "bn", "stem_bn"),
    (r"bn2", "bn", "head_bn"),
    (r"fc|linear", "dense", "logits"),
)
_BLOCK = r"layer(?P<stage>\d+)\.(?P<index>\d+)\."


def _shortcut(block: str, name: str, conv: str, batch_norm: str) -> tuple[Rule, ...]:
    return (
        (rf"{block}{re.escape(conv)}", "conv", f"{name}_shortcut_conv"),
        (rf"{block}{re.escape(batch_norm)}", "bn", f"{name}_shortcut_bn"),
    )


# In a name, `{block}` counts blocks from 1 (VGG-Small's stem is the first), `{pair}` counts convolutions
# where a block of the authors has two and a block here one; `{letter}` and `{part}` say which convolution
# of its block it is.
RULES: dict[str, tuple[Rule, ...]] = {
    # Bi-Real Net and ReAct networks: one convolution in a block.
    "single": (
        *_TRUNK,
        (rf"{_BLOCK}(binary_)?conv", "conv", "stage{stage}_block{block}_conv"),
        (rf"{_BLOCK}bn1?", "bn", "stage{stage}_block{block}_bn"),
        (rf"{_BLOCK}move0", "shift", "stage{stage}_block{block}_threshold"),
        (rf"{_BLOCK}move1", "shift", "stage{stage}_block{block}_bias_before"),
        (rf"{_BLOCK}(prelu|nonlinear)", "prelu", "stage{stage}_block{block}_prelu"),
        (rf"{_BLOCK}move2", "shift", "stage{stage}_block{block}_bias_after"),
        *_shortcut(_BLOCK, "stage{stage}_block{block}", "downsample.1", "downsample.2"),
    ),
    # ImageNet ResNets: two convolutions in a block of the authors.
    "pairs": (
        *_TRUNK,
        (rf"{_BLOCK}conv(?P<number>[12])", "conv", "stage{stage}_block{pair}_conv"),
        (rf"{_BLOCK}bn(?P<number>[12])", "bn", "stage{stage}_block{pair}_bn"),
        *_shortcut(_BLOCK, "stage{stage}_block{pair}", "downsample.0", "downsample.1"),
    ),
    # CIFAR ResNets: two or three convolutions in a block.
    "cifar": (
        *_TRUNK,
        (rf"{_BLOCK}conv(?P<number>[123])", "conv", "stage{stage}_block{block}{letter}_conv"),
        (rf"{_BLOCK}bn(?P<number>[123])", "bn", "stage{stage}_block{block}{letter}_bn"),
        *_shortcut(_BLOCK, "stage{stage}_block{block}", "shortcut.0", "shortcut.1"),
    ),
    # Bi-Real Net with 50 layers: blocks are numbered without regard to stages.
    "bottlenecks": (
        *_TRUNK,
        (r"layers\.(?P<index>\d+)\.down_conv1x1", "conv", "stage{stage}_block{block}_narrow_conv"),
        (r"layers\.(?P<index>\d+)\.conv(?P<number>[123])", "conv", "stage{stage}_block{block}_{part}_conv"),
        (r"layers\.(?P<index>\d+)\.bn(?P<number>[123])", "bn", "stage{stage}_block{block}_{part}_bn"),
        *_shortcut(r"layers\.(?P<index>\d+)\.", "stage{stage}_block{block}", "downsample.1", "downsample.2"),
    ),
    # VGG-Small: layers are counted from 0, the stem included.
    "vgg": (
        (r"conv0", "conv", "stem_conv"),
        (r"bn0", "bn", "stem_bn"),
        (r"conv(?P<index>[1-5])", "conv", "block{block}_conv"),
        (r"bn(?P<index>[1-5])", "bn", "block{block}_bn"),
        (r"nonlinear5", "prelu", "last_prelu"),
        (r"fc", "dense", "logits"),
    ),
}
"""Which layer a path of modules stands for, by family of networks."""

FAMILIES = {"vgg_small": "vgg", "bireal_net50": "bottlenecks", "cifar_": "cifar", "resnet": "pairs"}
"""The family of a network by the start of its name; all others are `single`."""

_STAGES = (3, 4, 6, 3)  # blocks of BiRealNet50, per stage
_PARTS = ("reduce", "spatial", "expand")

UNUSED = {
    "num_batches_tracked": "a counter of PyTorch's BatchNorm",
    "tracker": "OvSW's training state",
    "weight_prev": "OvSW's training state",
    "layers.0.down_conv1x1.weight": "never used by the authors' network",
}
"""What a checkpoint holds beside the network, by full name or field, and what it is."""


def unused(name: str) -> str | None:
    """Why a name of the checkpoint has nothing to do with the logits, or `None`."""
    return UNUSED.get(name) or UNUSED.get(name.rpartition(".")[2])


def our_key(model: str, name: str) -> Key | None:
    """Layer and variable of the network `model` for a PyTorch name; `None` where there can be none.

    Args:
        model: Name of the architecture, as in `zoo.MODELS`.
        name: Name in the authors' state dict.

    Example:
        >>> our_key("cifar_resnet20", "layer2.0.conv1.weight")
        ('stage2_block1a_conv', 'kernel')
    """
    family = next((kind for start, kind in FAMILIES.items() if model.startswith(start)), "single")
    path, _, field = name.rpartition(".")
    path = path.removesuffix(".binarize")
    for pattern, kind, template in RULES[family]:
        match = re.fullmatch(pattern, path)
        if match:
            layer = template.format(**_numbers(match.groupdict(), family))
            variable = FIELDS[kind].get(field)
            return None if variable is None else (layer, variable)
    return None


def _numbers(groups: dict[str, str | None], family: str) -> dict[str, str | int | None]:
    """What the name of a layer may mention, from the numbers in the path."""
    index, number = int(groups.get("index") or 0), int(groups.get("number") or 1)
    stage = groups.get("stage")
    if family == "bottlenecks":
        starts = [sum(_STAGES[:count]) for count in range(len(_STAGES))]
        stage_index = max(count for count, start in enumerate(starts) if index >= start)
        stage, index = str(stage_index + 1), index - starts[stage_index]
    return {
        "stage": stage,
        "block": index + 1,
        "pair": 2 * index + number,
        "letter": "abc"[number - 1],
        "part": _PARTS[number - 1],
    }
