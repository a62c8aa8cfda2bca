"""What the architectures share: their registry, the arguments that all of them take, and their blocks.

An architecture is a function `(net, image, …options)` that returns a feature map; `architecture` makes it a
function in Larq Zoo's style, keyword arguments only, and adds the method, the input, the classifier and the
weights. `net` is a `Builder`: it makes the layers with the method's quantizers and initial weights.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from bnn_tf import methods, model_files
from bnn_tf._tensorflow import lazy, tf, without_autograph
from bnn_tf.errors import Elsewhere, UsageError, UserError, unknown
from bnn_tf.registry import Registry, is_path
from bnn_tf.values import Count, Range, check
from zoo import pretrained

if TYPE_CHECKING:
    from bnn_tf import layers
else:
    layers = lazy("bnn_tf.layers")

Network = Callable[..., "tf.keras.Model"]
Block = Callable[..., "tf.Tensor"]
Shortcut = Callable[..., "tf.Tensor"]

_ELSEWHERE = Elsewhere(
    synonyms={"reactnet": "react_resnet18", "resnet50": "bireal_net50"},
    relatives={
        "alexnet": "vgg_small",
        "binaryalexnet": "vgg_small",
        "binarydensenet": "quicknet_large",
        "cifarresnet": "cifar_resnet20",
        "convnext": "quicknet_large",
        "deit": "quicknet_large",
        "densenet": "quicknet_large",
        "efficientnet": "quicknet",
        "ghostnet": "quicknet_small",
        "googlenet": "quicknet",
        "inception": "quicknet",
        "lenet": "cifar_resnet20",
        "meliusnet": "quicknet_large",
        "mnasnet": "quicknet_small",
        "mobilenet": "quicknet_small",
        "preactresnet": "cifar_resnet18",
        "reactneta": "react_resnet18",
        "realtobinarynet": "bireal_net18",
        "regnet": "quicknet",
        "resnet": "resnet18",
        "resnet32": "cifar_resnet20",
        "resnet44": "cifar_resnet20",
        "resnet56": "cifar_resnet20",
        "resnet110": "cifar_resnet20",
        "resnext": "bireal_net50",
        "senet": "bireal_net50",
        "shufflenet": "quicknet_small",
        "squeezenet": "quicknet_small",
        "swin": "quicknet_large",
        "vgg": "vgg_small",
        "vit": "quicknet_large",
        "wideresnet": "cifar_resnet18",
        "wrn": "cifar_resnet18",
        "xception": "quicknet",
        "xnornet": "bireal_net18",
    },
    listed_by="bnn-tf models",
)

MODELS: Registry[Network] = Registry("model", "bnn_tf.models", elsewhere=_ELSEWHERE)
"""All architectures by name; installed packages add theirs through the entry point `bnn_tf.models`."""

_REQUIRED = ("method", "input_shape", "num_classes", "weights")


def list_models() -> list[str]:
    """The architectures' names, as `get_model` and the command line take them.

    Example:
        >>> "cifar_resnet20" in list_models()
        True
    """
    return MODELS.names()


def get_model(name: str) -> Network:
    """The architecture called `name` in snake case, or the function `package.module:name`.

    Raises:
        UsageError: there is none; the message names the nearest and all.
        UserError: `package.module:name` cannot be imported, may not be called (see `bnn_tf.registry`), or is
            no function that builds a network.

    Example:
        >>> get_model("cifar_resnet20").__name__
        'CifarResNet20'
    """
    builder = MODELS.get(name)
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    missing = [argument for argument in _REQUIRED if argument not in parameters]
    if is_path(name) and missing:
        raise UserError(
            f"{name!r} builds no network: it must be a function with the arguments {', '.join(_REQUIRED)}"
        )
    return builder


def require_options(model: str, options: Iterable[str], besides: Collection[str]) -> None:
    """Refuses options that an architecture does not have; nothing is built, and TensorFlow is not needed.

    Args:
        model: A name that `get_model` takes.
        options: Names of the options.
        besides: Arguments of the architecture that are no options here.

    Raises:
        UsageError: there is no such architecture or option; the message names the nearest and all.

    Example:
        >>> require_options("cifar_resnet20", ["pad_values"], besides=("method", "weights"))
    """
    parameters = inspect.signature(get_model(model)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    valid = [name for name in parameters if name not in besides]
    for option in options:
        if option not in valid:
            raise unknown(f"option of model {model}", option, valid)


# ------------------------------------------------------------------------------------ making networks


@dataclasses.dataclass(frozen=True)
class Builder:
    """Makes the layers of one network; all have their names from the architecture.

    Args:
        method: How convolutions are binarized.
        pad_values: Padding of the binary convolutions.
        torch_padding: Whether strided layers pad as PyTorch's do; see `architecture`.
        initializers: How the weights start.

    Example:
        >>> import tensorflow as tf
        >>> net = Builder(bnn_tf.methods.ReCU())
        >>> net.binary(tf.keras.Input((8, 8, 4)), 16, "block").shape
        TensorShape([None, 8, 8, 16])
    """

    method: methods.Method
    pad_values: float = 0.0
    torch_padding: bool = False
    initializers: methods.Initializers | None = None

    @property
    def start(self) -> methods.Initializers:
        """How the weights start: as the network says, or else as the method does."""
        return self.initializers or self.method.initializers

    def conv(
        self,
        x: tf.Tensor,
        filters: int,
        kernel_size: int,
        name: str,
        strides: int = 1,
        role: Literal["stem", "shortcut"] = "stem",
    ) -> tf.Tensor:
        """A real-valued convolution without bias; `role` says how its kernel starts."""
        return tf.keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=methods.initializer(getattr(self.start, role)),
            name=name,
        )(x)

    def batch_norm(self, x: tf.Tensor, name: str, gamma: float = 1.0) -> tf.Tensor:
        """BatchNorm with the papers' epsilon 1e-5 and running average 0.9."""
        return layers.BatchNormalization(
            epsilon=1e-5,
            momentum=0.9,
            gamma_initializer=tf.keras.initializers.Constant(gamma),
            name=name,
        )(x)

    def binary_conv(
        self,
        x: tf.Tensor,
        filters: int,
        name: str,
        kernel_size: int = 3,
        strides: int = 1,
        activate: bool = True,
    ) -> tf.Tensor:
        """The method's binary convolution; see `methods.Method.binary_conv`."""
        return self.method.binary_conv(
            x,
            filters,
            kernel_size,
            strides=strides,
            pad_values=self.pad_values,
            activate=activate,
            kernel_initializer=self.start.binary,
            name=name,
        )

    def binary(
        self,
        x: tf.Tensor,
        filters: int,
        name: str,
        kernel_size: int = 3,
        strides: int = 1,
        activate: bool = True,
        gamma: float = 1.0,
    ) -> tf.Tensor:
        """A binary convolution `{name}_conv`, then BatchNorm `{name}_bn` whose scale starts at `gamma`."""
        x = self.binary_conv(x, filters, f"{name}_conv", kernel_size, strides, activate)
        return self.batch_norm(x, f"{name}_bn", gamma)

    def dense(self, x: tf.Tensor, num_classes: int) -> tf.Tensor:
        """Flatten and the dense layer; float32 logits."""
        x = tf.keras.layers.Flatten(name="flatten")(x)
        return tf.keras.layers.Dense(
            num_classes,
            kernel_initializer=methods.initializer(self.start.classifier),
            bias_initializer=methods.initializer(self.start.bias, fan_in=x.shape[-1]),
            dtype="float32",
            name="logits",
        )(x)

    def classifier(self, x: tf.Tensor, num_classes: int) -> tf.Tensor:
        """Average over the whole map, then the dense layer."""
        return self.dense(average_over_map(x), num_classes)

    def normalized_classifier(self, x: tf.Tensor, num_classes: int) -> tf.Tensor:
        """Average over the whole map, BatchNorm, then the dense layer."""
        return self.dense(self.batch_norm(average_over_map(x), "head_bn"), num_classes)


_ARGUMENTS = """\
method: How the convolutions are binarized: a method, its name, or its configuration.
input_shape: `(height, width, channels)`; height and width may be `None`.
num_classes: Number of logits.
pad_values: Padding of the binary convolutions: 0 as in the papers, or 1 (faster on device).
weights: `None` for a random start, `"cifar10"` for the trained weights that come with the package (see
    `zoo.pretrained.names`), or the path of a weights file.
include_top: Whether the classifier is part of the network; without it, the output is the last feature map,
    and trained weights that come with the package start a network for other classes.
pooling: Without the classifier: `"avg"` or `"max"` reduces the feature map to a vector, `None` does not.
torch_padding: Pad strided layers as PyTorch does at even sizes: the image is turned by 180°, and the kernels
    must be turned too, as an imported checkpoint's are.
"""
_RESULT = """\
Returns:
    A Keras model from normalised images to logits (or features).

Raises:
    UsageError: an argument does not fit, or there is no such method.
    UserError: the weights do not load.
"""


def architecture(
    name: str,
    *,
    method: str = "bireal",
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    head: str = "classifier",
    initializers: methods.Initializers | None = None,
) -> Callable[[Callable[..., tf.Tensor]], Network]:
    """A decorator that makes a network of a function `(net, image, …options)` and registers it.

    What the function returns is the last feature map. Its further arguments become options of the network,
    and its docstring's `Args` section, if there is one, is about them alone.

    Args:
        name: The network's name in snake case.
        method: The default method.
        input_shape: The usual shape of its images; it decides which recipe stands in where there is none.
        num_classes: The usual number of classes.
        pad_values: The default padding.
        head: The method of `Builder` that makes the classifier.
        initializers: How weights start where the network decides that, and not the method.

    Example:
        >>> @architecture("plain", input_shape=(32, 32, 3), num_classes=10)
        ... def Plain(net, image, width=8):
        ...     x = net.batch_norm(net.conv(image, width, 3, "stem_conv"), "stem_bn")
        ...     return net.binary(x, 2 * width, "body")
        >>> Plain(method="recu", width=4).output_shape
        (None, 10)
    """

    def decorate(body: Callable[..., tf.Tensor]) -> Network:
        own = list(inspect.signature(body).parameters.values())[2:]
        shared = {
            "method": method,
            "input_shape": input_shape,
            "num_classes": num_classes,
            "pad_values": pad_values,
            "weights": None,
            "include_top": True,
            "pooling": None,
            "torch_padding": False,
        }

        def build(**arguments: Any) -> tf.keras.Model:
            for key in arguments:
                if key not in signature.parameters:
                    raise unknown(f"option of model {name}", key, signature.parameters)
            values = {**{key: p.default for key, p in signature.parameters.items()}, **arguments}
            for key, value in values.items():
                if value is inspect.Parameter.empty:
                    raise UsageError(f"model {name} needs its option {key!r}")
            parts = (name, body, head, initializers, values, [option.name for option in own])
            return without_autograph(lambda _: _network(*parts))

        keyword = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.Signature(
            [inspect.Parameter(key, keyword, default=value) for key, value in shared.items()]
            + [option.replace(kind=keyword) for option in own]
        )
        build.__signature__ = signature  # type: ignore[attr-defined]
        build.__name__, build.__qualname__ = body.__name__, body.__qualname__
        build.__module__, build.__doc__ = body.__module__, _documentation(body)
        return MODELS.register(name)(build)

    return decorate


def _documentation(body: Callable) -> str:
    """The body's docstring with the shared arguments before its own."""
    text = inspect.getdoc(body) or ""
    before, _, after = text.partition("Args:\n")
    if not after:
        before, mark, rest = text.partition("References:\n")
        after = f"\n{mark}{rest}"
    arguments = textwrap.indent(_ARGUMENTS, "    ")
    own, mark, rest = after.partition("References:\n")
    own = own.rstrip("\n") + "\n" if own.strip() else ""
    parts = [f"{before.rstrip()}\n\nArgs:\n{arguments}{own}", _RESULT]
    return "\n".join([*parts, *([f"{mark}{rest}"] if mark else [])])


Side = Annotated[int, Range(least=1)]


def _network(
    name: str,
    body: Callable[..., tf.Tensor],
    head: str,
    initializers: methods.Initializers | None,
    values: dict[str, Any],
    options: Sequence[str],
) -> tf.keras.Model:
    title = f"model {name}"
    shape = check(f"{title}: input_shape", values["input_shape"], tuple[Side | None, Side | None, Side])
    classes = check(f"{title}: num_classes", values["num_classes"], Count)
    pooling = check(f"{title}: pooling", values["pooling"], Literal["avg", "max"] | None)
    for flag in ("include_top", "torch_padding"):
        check(f"{title}: {flag}", values[flag], bool)
    padding = check(f"{title}: pad_values", values["pad_values"], float)
    check(f"{title}: pad_values", int(padding) if padding.is_integer() else padding, Literal[0, 1])
    net = Builder(methods.get(values["method"]), padding, values["torch_padding"], initializers)

    image = tf.keras.layers.Input(shape=shape, name="image")
    turned = layers.Flip(name="flip")(image) if net.torch_padding else image
    features = x = body(net, turned, **{option: values[option] for option in options})
    if values["include_top"]:
        x = getattr(net, head)(x, classes)
    elif pooling is not None:
        kinds = {"avg": tf.keras.layers.GlobalAveragePooling2D, "max": tf.keras.layers.GlobalMaxPooling2D}
        x = kinds[pooling](name="pool")(x)
    model = tf.keras.Model(image, x, name=name)
    if net.torch_padding:
        _require_even_pools(model)
    weights = values["weights"]
    if weights in pretrained.datasets():
        stored = pretrained.name_for(name, net.method.name, weights)
        trained_classes = len(pretrained.record(stored)["config"]["class_names"])
        if not values["include_top"]:
            # The layers are shared; the classifier is there only to take its part of the file.
            whole = tf.keras.Model(image, getattr(net, head)(features, trained_classes))
            pretrained.assign(whole, stored)
        elif classes == trained_classes:
            pretrained.assign(model, stored)
        else:
            raise UserError(
                f"the weights {stored} are for {trained_classes} classes and not for {classes}: with "
                "include_top=False they load without their classifier, and your own can follow"
            )
    elif weights is not None:
        model_files.load_weights(model, weights)
    return model


def _require_known_size(shape: Sequence[int | None]) -> None:
    if None in shape[1:3]:
        raise UserError("torch_padding needs a known input size")


def _require_even_pools(model: tf.keras.Model) -> None:
    """PyTorch's 2×2 pools leave out the last row of an odd size, which a turned map has first."""
    pools = (tf.keras.layers.AveragePooling2D, tf.keras.layers.MaxPool2D)
    for layer in model.layers:
        if isinstance(layer, pools) and layer.pool_size == (2, 2):
            _require_known_size(layer.input_shape)
            if any(size % 2 for size in layer.input_shape[1:3]):
                raise UserError(
                    f"torch_padding needs an input size that stays even up to {layer.name}, "
                    f"which halves {'×'.join(map(str, layer.input_shape[1:3]))} pixels"
                )


# --------------------------------------------------------------------------------------------- blocks


def stages(x: tf.Tensor, counts: Sequence[int], widths: Sequence[int], block: Block) -> tf.Tensor:
    """`counts[i]` blocks of `widths[i]` channels in stage i; all stages but the first start with stride 2.

    `block` is a function `(x, filters, strides, name)`; names are `stage1_block1`, `stage1_block2`, …
    """
    for stage, (count, filters) in enumerate(zip(counts, widths, strict=True), start=1):
        for index in range(count):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, filters, strides, f"stage{stage}_block{index + 1}")
    return x


def add(x: tf.Tensor, shortcut: tf.Tensor, name: str) -> tf.Tensor:
    """The sum at the end of a shortcut."""
    return tf.keras.layers.Add(name=name)([x, shortcut])


def average_pool(x: tf.Tensor, name: str) -> tf.Tensor:
    """2×2 average pooling with stride 2; odd sizes are padded, as strided `same` convolutions do."""
    return tf.keras.layers.AveragePooling2D(2, strides=2, padding="same", name=name)(x)


def average_over_map(x: tf.Tensor) -> tf.Tensor:
    """Average over the whole map, which stays a map of one pixel.

    A pool of the map's size is what Larq Compute Engine runs fast; where the size is unknown, global pooling
    does it.
    """
    height, width = x.shape[1:3]
    if height and width:
        return tf.keras.layers.AveragePooling2D((height, width), name="pool")(x)
    return tf.keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)


def pooled_conv_shortcut(net: Builder, x: tf.Tensor, filters: int, name: str, strides: int) -> tf.Tensor:
    """Average pool, real 1×1 convolution, BatchNorm (Bi-Real, ReAct); the identity where shapes agree."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    if strides == 2:
        x = average_pool(x, f"{name}_shortcut_pool")
    x = net.conv(x, filters, 1, f"{name}_shortcut_conv", role="shortcut")
    return net.batch_norm(x, f"{name}_shortcut_bn")


def concatenated_shortcut(net: Builder, x: tf.Tensor, filters: int, name: str, strides: int) -> tf.Tensor:
    """Average pool, and the channels repeated until there are enough: no parameters, hardly any work.

    Raises:
        UserError: `filters` is no multiple of the channels that there are.
    """
    if strides == 2:
        x = average_pool(x, f"{name}_shortcut_pool")
    times, rest = divmod(filters, x.shape[-1])
    if rest:
        raise UserError(
            f"{name}: {x.shape[-1]} channels cannot be repeated to {filters}; use shortcut='conv'"
        )
    return x if times == 1 else tf.keras.layers.Concatenate(name=f"{name}_shortcut_concat")([x] * times)


def padded_shortcut(x: tf.Tensor, filters: int, name: str, strides: int) -> tf.Tensor:
    """Average pool and zero channels, half on either side, without parameters (CIFAR networks)."""
    if strides == 2:
        x = average_pool(x, f"{name}_shortcut_pool")
    missing = filters - x.shape[-1]
    if missing:
        x = layers.ChannelPad(missing // 2, missing - missing // 2, name=f"{name}_shortcut_pad")(x)
    return x


SHORTCUTS = ("conv", "concat")


def shortcut_of(kind: str, conv: Shortcut = pooled_conv_shortcut) -> Shortcut:
    """The shortcut that an architecture's option `shortcut` names; `conv` is the architecture's own.

    Raises:
        UsageError: there is no such shortcut.
    """
    check("shortcut", kind, Literal[SHORTCUTS])
    return conv if kind == "conv" else concatenated_shortcut


STEMS = ("imagenet", "quick", "patch")


def stem(
    net: Builder, x: tf.Tensor, filters: int, kind: str, gamma: float = 1.0, clip: bool = False
) -> tf.Tensor:
    """From an image to `filters` channels at a quarter of its height and width.

    Args:
        net: The network.
        x: The image.
        filters: Channels.
        kind: `"imagenet"`: 7×7/2 convolution and 3×3/2 max pool. `"quick"`, as QuickNet's: 3×3/2 convolution
            to a quarter of the channels, ReLU, depthwise 3×3/2, 1×1. `"patch"`: 4×4/4 convolution. BatchNorm
            follows each convolution.
        gamma: Start of the last BatchNorm's scale.
        clip: Whether the method's clip follows the last BatchNorm.

    Raises:
        UsageError: there is no such stem, or it does not go with `torch_padding`.
    """
    check("stem", kind, Literal[STEMS])
    if net.torch_padding and kind != "imagenet":
        raise UserError("torch_padding is for imported networks, whose stem is 'imagenet'")
    if kind == "patch":
        x = net.conv(x, filters, 4, "stem_conv", strides=4)
    elif kind == "quick":
        x = quick_stem(net, x, filters)
    else:
        x = net.conv(x, filters, 7, "stem_conv", strides=2)
    x = net.batch_norm(x, "stem_bn", gamma)
    if clip:
        x = net.method.clip(x, "stem_clip")
    if kind != "imagenet":
        return x
    return tf.keras.layers.MaxPool2D(3, strides=2, padding="same", name="stem_pool")(x)


def quick_stem(net: Builder, x: tf.Tensor, filters: int) -> tf.Tensor:
    """QuickNet's stem without its last BatchNorm; see `stem`."""
    x = net.conv(x, filters // 4, 3, "stem_reduce_conv", strides=2)
    x = tf.keras.layers.ReLU(name="stem_relu")(net.batch_norm(x, "stem_reduce_bn"))
    x = tf.keras.layers.DepthwiseConv2D(
        3, strides=2, padding="same", use_bias=False, name="stem_depthwise_conv"
    )(x)
    x = net.batch_norm(x, "stem_depthwise_bn")
    return net.conv(x, filters, 1, "stem_conv")


def react_activation(x: tf.Tensor, name: str) -> tf.Tensor:
    """Bias, PReLU with one slope per channel, bias (ReActNet's RPReLU)."""
    x = layers.LearnableBias(name=f"{name}_bias_before")(x)
    x = prelu(x, f"{name}_prelu")
    return layers.LearnableBias(name=f"{name}_bias_after")(x)


def prelu(x: tf.Tensor, name: str) -> tf.Tensor:
    """PReLU with one slope per channel that starts at 0.25."""
    start = tf.keras.initializers.Constant(0.25)
    return tf.keras.layers.PReLU(alpha_initializer=start, shared_axes=[1, 2], name=name)(x)


def torch_phase(net: Builder, x: tf.Tensor, name: str) -> tf.Tensor:
    """The map for a 1×1 convolution with stride 2, so that it takes the pixels that PyTorch takes.

    These are rows and columns 0, 2, 4, …; of a turned map with an even size that means 1, 3, 5, ….

    Raises:
        UserError: the size of the map is unknown.
    """
    if not net.torch_padding:
        return x
    _require_known_size(x.shape)
    rows, columns = (1 - size % 2 for size in x.shape[1:3])
    return tf.keras.layers.Cropping2D(((rows, 0), (columns, 0)), name=name)(x)


def stage_counts(counts: Sequence[int]) -> tuple[int, ...]:
    """The option `stages`, checked.

    Raises:
        UsageError: it is not four numbers of at least 1.
    """
    return check("stages", counts, tuple[Count, Count, Count, Count])
