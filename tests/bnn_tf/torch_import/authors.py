"""The authors' networks in float64 NumPy with PyTorch's padding, each making its own state dict.

Nothing here comes from the package under test: NCHW maps, OIHW kernels, `padding=1` on both sides, names
as the authors' modules have them. A parameter is drawn when a forward pass first asks for it; BatchNorm
then takes the statistics of that pass, somewhat changed.
"""

import numpy as np


class Network:
    """State dict and forward pass; `margin` is each image's smallest |activation| before a sign."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.state = {}
        self.margin = np.inf

    def take(self, name, draw):
        if name not in self.state:
            self.state[name] = np.asarray(draw(), np.float32)
        return self.state[name].astype(np.float64)

    def normal(self, name, shape, scale=1.0):
        return self.take(name, lambda: self.rng.normal(scale=scale, size=shape))

    def uniform(self, name, shape, low, high):
        return self.take(name, lambda: self.rng.uniform(low, high, size=shape))

    def sign(self, x):
        self.margin = np.minimum(self.margin, np.abs(x).min(axis=(1, 2, 3)))
        return np.sign(x)

    def real_conv(self, x, name, filters, size, stride=1, padding=None):
        shape = (filters, x.shape[1], size, size)
        padding = size // 2 if padding is None else padding
        return conv(x, self.normal(f"{name}.weight", shape, np.prod(shape[1:]) ** -0.5), stride, padding)

    def batch_norm(self, x, name):
        axes = (0, *range(2, x.ndim))
        c = x.shape[1]
        gamma = self.uniform(f"{name}.weight", c, 0.5, 1.5)
        beta = self.normal(f"{name}.bias", c, 0.3)
        mean = self.take(f"{name}.running_mean", lambda: x.mean(axes) + self.rng.normal(size=c) * 0.1)
        var = self.take(f"{name}.running_var", lambda: x.var(axes) * self.rng.uniform(0.8, 1.2, c) + 0.01)
        self.state.setdefault(f"{name}.num_batches_tracked", np.array(7))
        column = (1, -1, *[1] * (x.ndim - 2))
        factor = gamma / np.sqrt(var + 1e-5)
        return x * factor.reshape(column) + (beta - mean * factor).reshape(column)

    def bias(self, x, name):
        return x + self.normal(f"{name}.bias", (1, x.shape[1], 1, 1), 0.3)

    def prelu(self, x, name):
        slope = self.uniform(f"{name}.weight", x.shape[1], 0.1, 0.5)[:, None, None]
        return np.where(x >= 0, x, slope * x)

    def dense(self, x, name, classes):
        weight = self.normal(f"{name}.weight", (classes, x.shape[1]), x.shape[1] ** -0.5)
        return x @ weight.reshape(classes, -1).T + self.normal(f"{name}.bias", classes)


def conv(x, weight, stride, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))[:, :, ::stride, ::stride]
    return np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def max_pool(x, size, stride, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].max(axis=(4, 5))


def average_pool(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def hard_tanh(x):
    return np.clip(x, -1, 1)


def centred(w):
    w = w - w.mean(axis=(1, 2, 3), keepdims=True)
    return w / np.sqrt(w.var(axis=(1, 2, 3), keepdims=True, ddof=1) + 1e-5)


def magnitude(w):
    return np.abs(w).mean(axis=(1, 2, 3), keepdims=True)


def bireal_conv(net, x, name, filters, stride, size=3, flat=True):
    shape = (filters, x.shape[1], size, size)
    stored = f"{name}.weights" if flat else f"{name}.weight"
    w = net.normal(stored, (np.prod(shape), 1) if flat else shape, 0.3).reshape(shape)
    return conv(net.sign(x), magnitude(w) * np.sign(w), stride, size // 2)


def recu_conv(net, x, name, filters, stride, size=3):
    shape = (filters, x.shape[1], size, size)
    w = centred(net.take(f"{name}.weight", lambda: net.rng.normal(0.1, 0.3, shape))) * 2 * np.sqrt(2)
    bound = -np.abs(w).mean() * np.log(2 - 2 * net.take(f"{name}.tau", lambda: 0.97))
    alpha = net.uniform(f"{name}.alpha", (filters, 1, 1), 0.2, 1.0)
    return conv(net.sign(x), np.sign(np.clip(w, -bound, bound)), stride, size // 2) * alpha


def ovsw_conv(net, x, name, filters, stride, size=3):
    w = net.normal(f"{name}.weight", (filters, x.shape[1], size, size), 0.3)
    net.state[f"{name}.weight_prev"], net.state[f"{name}.tracker"] = w.astype("f"), np.zeros_like(w, "f")
    scale = np.abs(centred(w)).mean(axis=(1, 2, 3)).reshape(-1, 1, 1)
    return conv(net.sign(x), np.sign(w), stride, size // 2) * scale


def learned_scale_conv(net, x, name, filters, stride, size=3):
    w = net.normal(f"{name}.weight", (filters, x.shape[1], size, size), 0.3)
    scale = net.uniform(f"{name}.scaling_factor", filters, 0.2, 1.0).reshape(-1, 1, 1)
    return conv(net.sign(x), np.sign(w), stride, size // 2) * scale


def snn_conv(bits):
    def apply(net, x, name, filters, stride):
        shape = (filters, x.shape[1], 3, 3)
        w = net.normal(f"{name}.weight", shape, 0.3)
        pick = lambda: (net.rng.permutation(512)[: 2**bits, None] >> np.arange(9) & 1) * 2.0 - 1  # noqa: E731
        latent = net.take(
            f"{name}.binarize.patterns", lambda: pick() * net.rng.uniform(0.01, 3, (2**bits, 9))
        )
        memory = np.sign(latent)
        slices = w.reshape(-1, 9)
        distance = (slices**2).sum(axis=1, keepdims=True) - 2 * slices @ memory.T + 9
        chosen = memory[distance.argmin(axis=1)].reshape(shape)
        return conv(net.sign(x), magnitude(w) * chosen, stride, 1)

    return apply


def real_conv(net, x, name, filters, stride):
    return net.real_conv(net.sign(x), name, filters, 3, stride)


WIDTHS = (64, 128, 256, 512)


def imagenet_stem(net, x, filters, names=("conv1", "bn1"), clip=False):
    x = net.batch_norm(net.real_conv(x, names[0], filters, 7, 2), names[1])
    return max_pool(hard_tanh(x) if clip else x, 3, 2, 1)


def pooled_shortcut(net, x, name, filters, stride):
    if stride == 1 and x.shape[1] == filters:
        return x
    x = average_pool(x) if stride == 2 else x
    return net.batch_norm(net.real_conv(x, f"{name}.1", filters, 1), f"{name}.2")


def single(
    blocks, widths, binary, react=False, conv_name="binary_conv", bn="bn1", act="prelu", stem=("conv1", "bn1")
):
    """Bi-Real Net (18, 34) and the ReAct networks of SNN, ReActNet and ReCU's two stages."""

    def forward(net, x, classes):
        x = imagenet_stem(net, x, widths[0], stem)
        for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True), start=1):
            for index in range(count):
                name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
                y = net.bias(x, f"{name}.move0") if react else x
                y = net.batch_norm(binary(net, y, f"{name}.{conv_name}", filters, stride), f"{name}.{bn}")
                x = y + pooled_shortcut(net, x, f"{name}.downsample", filters, stride)
                if react:
                    x = net.prelu(net.bias(x, f"{name}.move1"), f"{name}.{act}")
                    x = net.bias(x, f"{name}.move2")
        return net.dense(x.mean(axis=(2, 3)), "fc", classes)

    return forward


def pairs(blocks, widths, binary):
    """ReCU's and OvSW's ImageNet ResNets."""

    def forward(net, x, classes):
        x = imagenet_stem(net, x, widths[0], clip=True)
        for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True), start=1):
            for index in range(count):
                name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
                shortcut = x
                if stride == 2:
                    shortcut = net.real_conv(x, f"{name}.downsample.0", filters, 1, 2, padding=0)
                    shortcut = net.batch_norm(shortcut, f"{name}.downsample.1")
                y = net.batch_norm(binary(net, x, f"{name}.conv1", filters, stride), f"{name}.bn1")
                x = hard_tanh(y + shortcut)
                y = net.batch_norm(binary(net, x, f"{name}.conv2", filters, 1), f"{name}.bn2")
                x = hard_tanh(y + x)
        return net.dense(net.batch_norm(x.mean(axis=(2, 3)), "bn2"), "fc", classes)

    return forward


def channel_shortcut(x, filters, stride):
    x = average_pool(x) if stride == 2 else x
    missing = filters - x.shape[1]
    return np.pad(x, ((0, 0), (missing // 2, missing // 2), (0, 0), (0, 0)))


def cifar20(binary):
    def forward(net, x, classes):
        x = hard_tanh(net.batch_norm(net.real_conv(x, "conv1", 16, 3), "bn1"))
        for stage, filters in enumerate((16, 32, 64), start=1):
            for index in range(3):
                name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
                y = net.batch_norm(binary(net, x, f"{name}.conv1", filters, stride), f"{name}.bn1")
                x = hard_tanh(y + channel_shortcut(x, filters, stride))
                y = net.batch_norm(binary(net, x, f"{name}.conv2", filters, 1), f"{name}.bn2")
                x = hard_tanh(y + x)
        return net.dense(net.batch_norm(x.mean(axis=(2, 3)), "bn2"), "linear", classes)

    return forward


def cifar18(widths, binary, binary_shortcut=False, conv_classifier=False, blocks=(2, 2, 2, 2)):
    def forward(net, x, classes):
        x = net.batch_norm(net.real_conv(x, "conv1", widths[0], 3), "bn1")
        for stage, (count, filters) in enumerate(zip(blocks, widths, strict=True), start=1):
            for index in range(count):
                name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
                if binary_shortcut and (stride == 2 or x.shape[1] != filters):
                    shortcut = binary(net, x, f"{name}.shortcut.0", filters, stride, size=1)
                    shortcut = net.batch_norm(shortcut, f"{name}.shortcut.1")
                else:
                    shortcut = channel_shortcut(x, filters, stride)
                y = net.batch_norm(binary(net, x, f"{name}.conv1", filters, stride), f"{name}.bn1")
                y = net.batch_norm(binary(net, hard_tanh(y), f"{name}.conv2", filters, 1), f"{name}.bn2")
                x = hard_tanh(y + shortcut)
        x = net.batch_norm(x.mean(axis=(2, 3)), "bn2")
        logits = net.dense(x, "fc" if conv_classifier else "linear", classes)
        if conv_classifier:
            net.state["fc.weight"] = net.state["fc.weight"].reshape(classes, -1)[:, :, None, None]
        return logits

    return forward


def vgg(binary, prelu=False):
    def forward(net, x, classes):
        x = hard_tanh(net.batch_norm(net.real_conv(x, "conv0", 128, 3), "bn0"))
        for index, filters in enumerate((128, 256, 256, 512, 512), start=1):
            x = binary(net, x, f"conv{index}", filters, 1)
            x = net.batch_norm(max_pool(x, 2, 2, 0) if index % 2 else x, f"bn{index}")
            x = net.prelu(x, "nonlinear5") if prelu and index == 5 else hard_tanh(x)
        return net.dense(x.reshape(len(x), -1), "fc", classes)

    return forward


def bireal50(net, x, classes):
    binary = lambda x, name, filters, stride, size: bireal_conv(net, x, name, filters, stride, size, False)  # noqa: E731
    narrow = wide = imagenet_stem(net, x, 64)
    index = 0
    for stage, (count, filters) in enumerate(zip((3, 4, 6, 3), WIDTHS, strict=True)):
        for block in range(count):
            name, stride = f"layers.{index}", 2 if stage and block == 0 else 1
            if index == 0:
                leak = np.where(np.abs(wide) > 1, 0.1 * wide + 0.9 * np.sign(wide), wide)
                first = net.batch_norm(net.real_conv(leak, f"{name}.conv1", filters, 1), f"{name}.bn1")
                net.normal(f"{name}.down_conv1x1.weight", (64, 16, 1, 1))
            else:
                first = net.batch_norm(binary(wide, f"{name}.conv1", filters, 1, 1), f"{name}.bn1")
                down = block == 0
                first += net.real_conv(narrow, f"{name}.down_conv1x1", filters, 1) if down else narrow
            middle = net.batch_norm(binary(first, f"{name}.conv2", filters, stride, 3), f"{name}.bn2")
            narrow = middle + (average_pool(first) if stride == 2 else first)
            last = net.batch_norm(binary(narrow, f"{name}.conv3", 4 * filters, 1, 1), f"{name}.bn3")
            wide = last + pooled_shortcut(net, wide, f"{name}.downsample", 4 * filters, stride)
            index += 1
    return net.dense(wide.mean(axis=(2, 3)), "fc", classes)


def example(forward, size, classes, seed=0, images=2, candidates=8):
    """A state dict, NHWC images and their logits; of the candidates those with the widest margins."""
    net = Network(seed)
    x = net.rng.normal(size=(candidates, 3, size, size)).astype(np.float32)
    forward(net, x.astype(np.float64), classes)
    net.margin = np.inf
    logits = forward(net, x.astype(np.float64), classes)  # the statistics are now those of the state dict
    best = np.argsort(-net.margin)[:images]
    assert net.margin[best].min() > 2e-6, "rounding could turn a sign; take another seed"
    return net.state, x[best].transpose(0, 2, 3, 1), logits[best]
