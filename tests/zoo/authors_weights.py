"""Puts arrays that carry the authors' PyTorch names into our models, for tests."""

import re

import numpy as np

_FIELDS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def our_name(name: str, kind: str, convs_per_block: str) -> tuple[str, str]:
    """Layer and variable for a PyTorch name; `convs_per_block` is "one", "two" or "inside" (one shortcut)."""
    fields = dict(_FIELDS) if kind.startswith("bn_") else {"weight": "kernel", "bias": "bias"}
    stem = re.fullmatch(r"(conv1|bn1)\.(\w+)", name)
    if stem:
        return f"stem_{stem[1][:-1]}", fields[stem[2]]
    head = re.fullmatch(r"(bn2|bn|linear|fc)\.(\w+)", name)
    if head:
        return ("head_bn" if kind.startswith("bn_") else "logits"), fields[head[2]]
    stage, block, module, field = re.fullmatch(r"layer(\d)\.(\d+)\.([\w.]+?)\.(\w+)", name).groups()
    index = int(block)
    if convs_per_block == "two":  # our blocks have one convolution each
        index = 2 * index + (module in ("conv2", "bn2"))
    prefix = f"stage{stage}_block{index + 1}"
    if convs_per_block in ("inside", "short"):
        prefix += {"1": "a", "2": "b"}.get(module[-1], "")
    special = {
        "learnable_bias": {"move0": "threshold", "move1": "bias_before", "move2": "bias_after"},
        "prelu_alpha": {"prelu": "prelu"},
    }.get(kind)
    if special:
        return f"{prefix}_{special[module]}", "bias" if kind == "learnable_bias" else "alpha"
    if module.startswith("downsample"):
        return f"{prefix}_shortcut_{'conv' if kind == 'conv_kernel' else 'bn'}", fields.get(field, "kernel")
    if kind == "alpha":
        return f"{prefix}_conv", "scale"
    if kind in ("patterns", "pattern_memory"):
        return f"{prefix}_conv", {"patterns": "codebook", "pattern_memory": "memory"}[kind]
    return f"{prefix}_{'bn' if kind.startswith('bn_') else 'conv'}", fields.get(field, "kernel")


def assign(model, arrays, convs_per_block: str) -> None:
    """Gives every variable of the model its array; fails where one is left over on either side."""
    variables = {}
    for layer in model.layers:
        for variable in layer.weights:
            variables[layer.name, variable.name.split("/")[-1].split(":")[0]] = variable
    left = {key for key in variables if key[1] not in ("tau", "step")}
    for i, (name, kind) in enumerate(zip(arrays["names"], arrays["kinds"], strict=True)):
        key = our_name(str(name), str(kind), convs_per_block)
        value = arrays[f"p{i:03d}"].astype(np.float32)
        variables[key].assign(value.reshape(variables[key].shape))
        left.remove(key)
    assert not left
