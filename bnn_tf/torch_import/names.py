"""The names of the four papers' PyTorch networks, translated into ours.

Every name is a path of modules and a field: `layer2.0.conv1.weight`. The module becomes a layer of ours
(`stage2_block1a_conv`), the field one of its variables (`kernel`).
"""

import re
from collections.abc import Callable

Key = tuple[str, str]

_CONV = {"weight": "kernel", "weights": "kernel", "tau": "tau", "patterns": "codebook", "memory": "memory"}
_SCALE = ("alpha", "scaling_factor")  # learned output scales of ReCU and OvSW
_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_FIELDS = {
    "bn": _BATCH_NORM,
    "bias": {"bias": "bias"},
    "prelu": {"weight": "alpha"},
    "dense": {"weight": "kernel", "bias": "bias"},
}
_TRUNK = {
    "conv": ("stem_conv", "conv"),
    "conv0": ("stem_conv", "conv"),
    "conv1": ("stem_conv", "conv"),
    "bn": ("stem_bn", "bn"),
    "bn0": ("stem_bn", "bn"),
    "bn1": ("stem_bn", "bn"),
    "bn2": ("head_bn", "bn"),
    "fc": ("logits", "dense"),
    "linear": ("logits", "dense"),
}
_REACT = {
    "move0": ("threshold", "bias"),
    "move1": ("bias_before", "bias"),
    "prelu": ("prelu", "prelu"),
    "nonlinear": ("prelu", "prelu"),
    "move2": ("bias_after", "bias"),
}
_BOTTLENECK = {"1": "reduce", "2": "spatial", "3": "expand"}
_BOTTLENECKS = (3, 4, 6, 3)  # of BiRealNet50, per stage

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
    """
    path, _, field = name.rpartition(".")
    found = _module(model, path.removesuffix(".binarize"))
    if found is None:
        return None
    layer, kind = found
    if kind == "conv" and field in _SCALE:
        return f"{layer}_scale", "scale"
    variable = (_CONV if kind == "conv" else _FIELDS[kind]).get(field)
    return None if variable is None else (layer, variable)


def _module(model: str, path: str) -> tuple[str, str] | None:
    """Layer and kind of layer for the path of a module."""
    if model == "vgg_small":
        return _of_vgg(path)
    if path in _TRUNK:
        return _TRUNK[path]
    block = re.fullmatch(r"layers?(\d*)\.(\d+)\.(.+)", path)
    if block is None:
        return None
    stage, index, module = block.groups()
    if (stage == "") != (model == "bireal_net50"):
        return None
    return _block(model)(int(stage or 0), int(index), module)


def _block(model: str) -> Callable[[int, int, str], tuple[str, str] | None]:
    if model == "bireal_net50":
        return _of_bottlenecks
    if model.startswith("cifar_"):
        return _of_cifar
    return _of_pairs if model.startswith("resnet") else _of_single


def _of_single(stage: int, index: int, module: str) -> tuple[str, str] | None:
    """Bi-Real Net and ReAct networks: one convolution in a block."""
    name = f"stage{stage}_block{index + 1}"
    if module in ("binary_conv", "conv"):
        return f"{name}_conv", "conv"
    if module in ("bn1", "bn"):
        return f"{name}_bn", "bn"
    if module in _REACT:
        suffix, kind = _REACT[module]
        return f"{name}_{suffix}", kind
    return _shortcut(name, module, "downsample.1", "downsample.2")


def _of_pairs(stage: int, index: int, module: str) -> tuple[str, str] | None:
    """ImageNet ResNets: two convolutions in a block of theirs, one in a block of ours."""
    first = 2 * index + 1
    found = re.fullmatch(r"(conv|bn)([12])", module)
    if found:
        return f"stage{stage}_block{first + int(found[2]) - 1}_{found[1]}", found[1]
    return _shortcut(f"stage{stage}_block{first}", module, "downsample.0", "downsample.1")


def _of_cifar(stage: int, index: int, module: str) -> tuple[str, str] | None:
    """CIFAR ResNets: two or three convolutions in a block, a, b and c."""
    name = f"stage{stage}_block{index + 1}"
    found = re.fullmatch(r"(conv|bn)([123])", module)
    if found:
        return f"{name}{'abc'[int(found[2]) - 1]}_{found[1]}", found[1]
    return _shortcut(name, module, "shortcut.0", "shortcut.1")


def _of_bottlenecks(_: int, index: int, module: str) -> tuple[str, str] | None:
    """Bi-Real Net with 50 layers, whose blocks are numbered without regard to stages."""
    stage = 0
    while stage < len(_BOTTLENECKS) and index >= _BOTTLENECKS[stage]:
        index -= _BOTTLENECKS[stage]
        stage += 1
    name = f"stage{stage + 1}_block{index + 1}"
    if module == "down_conv1x1":
        return f"{name}_narrow_conv", "conv"
    found = re.fullmatch(r"(conv|bn)([123])", module)
    if found:
        return f"{name}_{_BOTTLENECK[found[2]]}_{found[1]}", found[1]
    return _shortcut(name, module, "downsample.1", "downsample.2")


def _shortcut(name: str, module: str, conv: str, batch_norm: str) -> tuple[str, str] | None:
    kinds = {conv: "conv", batch_norm: "bn"}
    return (f"{name}_shortcut_{kinds[module]}", kinds[module]) if module in kinds else None


def _of_vgg(path: str) -> tuple[str, str] | None:
    """VGG-Small: layers counted from 0, the stem included; ours from 1."""
    found = re.fullmatch(r"(conv|bn)([0-5])", path)
    if found:
        number = int(found[2])
        return (f"block{number + 1}" if number else "stem") + f"_{found[1]}", found[1]
    return {"nonlinear5": ("last_prelu", "prelu"), "fc": ("logits", "dense")}.get(path)
