"""Where weights come from: earlier phases, what a name stands for (`bnn_tf.training.sources`), teachers.

Weights move between networks by layer and variable name (`transfer`), or, where the layers have other names,
by kind, order and shape (`transfer_in_order`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import sys
from collections.abc import Collection

import numpy as np

from bnn_tf import files, math
from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import claims_one_bit, lq, tf
from bnn_tf.data.images import Images, ResizeShort
from bnn_tf.errors import UserError, first_line, some, unknown
from bnn_tf.layers import Flip
from bnn_tf.model_files import load_model
from bnn_tf.training import sources
from bnn_tf.training.run import Run, RunConfig, build_network
from bnn_tf.transforms import latent_value
from bnn_tf.values import InNotebooks
from zoo import pretrained
from zoo.recipes import Recipe

Key = tuple[str, str]


# ----------------------------------------------------------------------------------------- transfer by name


@dataclasses.dataclass(frozen=True)
class TransferReport(InNotebooks):
    """What a transfer did; every entry is `layer/variable`.

    Args:
        matched: Variables that received weights.
        missing: Variables of the target without a source; they keep their start.
        unused: Variables of the source that nobody took.
        mismatched: Variables of both, of different shapes (text with both shapes).

    Example:
        >>> print(TransferReport(matched=("stem/kernel",), missing=("logits/bias",)))
        1 variables took their weights
        1 without a source: logits/bias
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, or one per kind of trouble."""
        lines = [f"{len(self.matched)} variables took their weights"]
        for what, names in (
            ("without a source", self.missing),
            ("unused in the source", self.unused),
            ("of another shape", self.mismatched),
        ):
            if names:
                lines.append(f"{len(names)} {what}: {some(names, 20)}")
        return "\n".join(lines)


def own_name(variable: tf.Variable) -> str:
    """The variable's name without its layer's: `kernel`, `gamma`, …."""
    return variable.name.split("/")[-1].split(":")[0]


def variables(model: tf.keras.Model) -> dict[Key, tf.Variable]:
    """The model's variables by layer and own name, those of nested models included.

    Raises:
        UserError: two have the same names.
    """
    by_key: dict[Key, tf.Variable] = {}
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            inner = variables(layer)
        else:
            inner = {(layer.name, own_name(v)): v for v in layer.weights}
        for key, variable in inner.items():
            if by_key.setdefault(key, variable) is not variable:
                raise UserError(f"model {model.name}: two variables are called {'/'.join(key)}")
    return by_key


def transfer(source: tf.keras.Model, target: tf.keras.Model) -> TransferReport:
    """Copies every variable of `source` to the one of the same layer, name and shape in `target`.

    Example:
        >>> import zoo
        >>> a, b = (zoo.CifarResNet20(method=method) for method in ("bireal", "recu"))
        >>> transfer(a, b).unused
        ()
    """
    there, here = variables(source), variables(target)
    matched, mismatched = [], []
    for key in here.keys() & there.keys():
        if here[key].shape == there[key].shape:
            here[key].assign(latent_value(there[key]))
            matched.append(key)
        else:
            mismatched.append(f"{'/'.join(key)} {tuple(there[key].shape)} -> {tuple(here[key].shape)}")
    return TransferReport(
        matched=_sorted(matched),
        missing=_sorted(here.keys() - there.keys()),
        unused=_sorted(there.keys() - here.keys()),
        mismatched=tuple(sorted(mismatched)),
    )


def _sorted(keys: Collection[Key]) -> tuple[str, ...]:
    return tuple(sorted("/".join(key) for key in keys))


def require_complete(report: TransferReport, fresh: Collection[str] = ()) -> None:
    """Checks that nothing was left over.

    Args:
        report: What `transfer` returned.
        fresh: Own names of variables that may lack a source, or be left unused.

    Raises:
        UserError: something else was left over; the message says what.

    Example:
        >>> require_complete(TransferReport(("stem/kernel",), missing=("conv/tau",)), fresh=("tau",))
        >>> require_complete(TransferReport(("stem/kernel",), missing=("conv/tau",)))
        Traceback (most recent call last):
        bnn_tf.errors.UserError: the weights do not carry over completely:
    """

    def left(names: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name.rpartition("/")[2] not in fresh)

    rest = dataclasses.replace(report, missing=left(report.missing), unused=left(report.unused))
    if rest.missing or rest.unused or rest.mismatched:
        raise UserError(f"the weights do not carry over completely:\n{rest}")


def require_same_orientation(source: tf.keras.Model, target: tf.keras.Model) -> None:
    """Checks that both networks have their kernels the same way up (see `bnn_tf.layers.Flip`).

    Raises:
        UserError: one has the architecture's option `torch_padding`, the other has not.
    """
    turned, wanted = (any(isinstance(layer, Flip) for layer in model.layers) for model in (source, target))
    if turned and not wanted:
        raise UserError(
            "the source's kernels are turned by 180°, as PyTorch's padding needs them; "
            "set the network's option torch_padding to true"
        )
    if wanted and not turned:
        raise UserError("the source's kernels are not turned by 180°; leave out the option torch_padding")


# ---------------------------------------------------------------------------------------- transfer by order

_KINDS = ("binary convolution", "real convolution", "dense layer")
Unit = tuple[tf.keras.layers.Layer, "tf.keras.layers.BatchNormalization | None"]


def transfer_in_order(source: tf.keras.Model, target: tf.keras.Model) -> TransferReport:
    """Copies the weights of `source` to the layers of `target` of the same kind, order and kernel shape.

    The two must have equally many binary convolutions, real convolutions and dense layers. Dense layers of
    another shape are left out (another number of classes), anything else must fit. BatchNorms give the
    same although their epsilons differ: the variance takes up the difference, so that with equal arithmetic
    in between the networks compute the same.

    Raises:
        UserError: a count or the shape of a convolution differs.

    Example:
        >>> def dense(name):
        ...     return tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,), name=name)])
        >>> transfer_in_order(dense("fc"), dense("logits")).matched
        ('logits/bias', 'logits/kernel')
    """
    there, here = units(source), units(target)
    matched: list[str] = []
    mismatched: list[str] = []
    taken: set[int] = set()
    for kind in _KINDS:
        if len(there[kind]) != len(here[kind]):
            raise UserError(
                f"{source.name} does not fit {target.name}: one has {len(there[kind])} of the kind {kind}, "
                f"the other {len(here[kind])}"
            )
        for old, new in zip(there[kind], here[kind], strict=True):
            shapes = tuple(old[0].kernel.shape), tuple(new[0].kernel.shape)
            if shapes[0] == shapes[1]:
                matched += _copy(old, new, taken)
            elif kind == "dense layer":
                mismatched.append(f"{new[0].name}/kernel {shapes[0]} -> {shapes[1]}")
            else:
                raise UserError(
                    f"{source.name} does not fit {target.name}: kernel of {new[0].name} is {shapes[1]}, "
                    f"that of {old[0].name} {shapes[0]}"
                )
    names = {f"{layer.name}/{own_name(v)}" for layer in target.layers for v in layer.weights}
    return TransferReport(
        matched=tuple(sorted(matched)),
        missing=tuple(sorted(names - set(matched))),
        unused=tuple(sorted(v.name for v in source.weights if id(v) not in taken)),
        mismatched=tuple(mismatched),
    )


def units(model: tf.keras.Model) -> dict[str, list[Unit]]:
    """The layers with kernels by kind, each with the BatchNorm behind it, in the network's order."""
    by_kind: dict[str, list[Unit]] = {kind: [] for kind in _KINDS}
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Dense):
            by_kind["dense layer"].append((layer, None))
        elif isinstance(layer, tf.keras.layers.Conv2D):
            binary = claims_one_bit(getattr(layer, "kernel_quantizer", None))
            by_kind[_KINDS[0 if binary else 1]].append((layer, _norm_behind(layer)))
    return by_kind


def _norm_behind(layer: tf.keras.layers.Layer) -> tf.keras.layers.BatchNormalization | None:
    """The BatchNorm that follows, perhaps after a scale."""
    while len(layer.outbound_nodes) == 1:
        layer = layer.outbound_nodes[0].layer
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            return layer
        if isinstance(layer, (tf.keras.layers.Conv2D, tf.keras.layers.Add)):
            break
    return None


def _copy(old: Unit, new: Unit, taken: set[int]) -> list[str]:
    """Copies the variables that both have; returns their names in the target."""
    names = []
    for source, target in zip(old, new, strict=True):
        if source is None or target is None:
            continue
        values = {own_name(variable): variable for variable in source.weights}
        for variable in target.weights:
            name = own_name(variable)
            if name not in values:
                continue
            value = latent_value(values[name])
            if name == "moving_variance":
                value = np.maximum(value + (source.epsilon - target.epsilon), 0)
            variable.assign(value)
            taken.add(id(values[name]))
            names.append(f"{target.name}/{name}")
    return names


# ------------------------------------------------------------------------------------------------- Larq Zoo


def load_larq_zoo(text: str | os.PathLike) -> tf.keras.Model:
    """A network of Larq Zoo, from images as `larq_zoo_images` prepares them to logits (without the softmax).

    Raises:
        UserError: there is no such network, its weights cannot be loaded, or it does not take that size.
    """
    name, random, size = sources.parse_larq_zoo(text)
    with quiet_native_stderr():
        from larq_zoo import literature, sota
    build = getattr(sota, name, None) or getattr(literature, name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the progress of the download
            trained = None if random else build(weights="imagenet")
            if trained is not None and trained.input_shape[1:3] == size:
                network = trained
            else:
                network = build(weights=None, input_shape=(*size, 3))
                if trained is not None:  # Keras loads the weights at 224×224 only
                    network.set_weights(trained.get_weights())
    except Exception as error:  # what Keras raises for a failed download is a plain Exception
        what = f"{sources.LARQ_ZOO}{name} for images of {size[0]}×{size[1]}"
        if random:
            raise UserError(f"{what} cannot be built: {first_line(error)}") from error
        raise UserError(
            f"the weights of {what} cannot be loaded ({first_line(error)}); "
            f"{sources.LARQ_ZOO}{name}:random has random ones"
        ) from error
    return tf.keras.Model(network.input, network.layers[-1].input, name=network.name)


def larq_zoo_images(size: tuple[int, int]) -> Images:
    """How images become inputs of Larq Zoo's networks: the centre 7/8 of the short side.

    Larq Zoo's own `preprocess_input` normalises in the same way, cuts out the same part, and then resizes
    with a bicubic filter, where the filter here is bilinear and anti-aliased.
    """
    return Images(evaluation=ResizeShort(8 / 7), size=size, normalization="imagenet")


# ------------------------------------------------------------------------------------- the start of a phase


def load_zoo(name: str) -> tf.keras.Model:
    """The network of `zoo:NAME`, with the weights that come with the package.

    Raises:
        UserError: there is no such name, or its file is damaged.

    Example:
        >>> from zoo import pretrained
        >>> [load_zoo(f"zoo:{name}").name for name in pretrained.names()][:1]
        ['cifar_resnet20']
    """
    name = name.removeprefix(pretrained.PREFIX)
    config = RunConfig.from_dict(pretrained.record(name)["config"])
    network = build_network(config.recipe, len(config.class_names))
    pretrained.assign(network, name)
    return network


def load_source(name: str, safe: bool = True) -> tf.keras.Model:
    """The network that a name stands for (see `bnn_tf.training.sources`).

    Args:
        name: A run, a saved model, `zoo:NAME` or `larq-zoo:NAME`.
        safe: See `bnn_tf.load_model`.

    Raises:
        UserError: there is no such run or model, or it cannot be read.
    """
    kind, path = sources.require(name), files.expanded(name)
    if kind == "zoo":
        return load_zoo(name)
    if kind == "larq-zoo":
        return load_larq_zoo(name)
    return Run.open(path).load_network() if kind == "run" else load_model(path, safe=safe)


def require_source(name: str, safe: bool = True) -> None:
    """Refuses what a later phase could not start from; a run may still be without weights.

    Raises:
        UserError: as `load_source`.
    """
    kind = sources.require(name)
    if kind == "run":
        Run.open(files.expanded(name))
    elif kind == "saved model":
        load_source(name, safe)


def initialize(
    network: tf.keras.Model,
    config: RunConfig,
    index: int,
    previous: tf.keras.Model | None,
    safe: bool = True,
) -> TransferReport | None:
    """Gives a new network of phase `index` the weights of another source or of the previous phase's network.

    Returns:
        What came from another source than the previous phase.

    Raises:
        UserError: weights had to carry over from the previous phase and do not completely, or there is
            no such source, or nothing of it fits.
    """
    phase, name = config.recipe.phases[index], config.sources()[index]
    report: TransferReport | None = None
    if name is not None:
        source = load_source(name, safe)
        require_same_orientation(source, network)
        fill = transfer_in_order if name.startswith(sources.LARQ_ZOO) else transfer
        report = fill(source, network)
        if not any(variable.endswith("/kernel") for variable in report.matched):
            raise UserError(f"no kernel of {name} fits this network:\n{report}")
    elif previous is not None and phase.start == "previous":
        report = transfer(previous, network)
        require_complete(report, phase.fresh_variables)
    if report is not None:
        config.recipe.method_of(phase).on_weights_taken(network, report.missing)
    if phase.binarize_kernels:
        binarize_kernels(network)
    return None if name is None else report


def described(report: TransferReport, name: str, network: tf.keras.Model) -> str:
    """What came from a source, as a user sees it; a classifier for other classes is no trouble."""
    classifier = f"{network.layers[-1].name}/"
    alone = report.mismatched and all(text.startswith(classifier) for text in report.mismatched)
    if alone and not report.missing and not report.unused:
        return (
            f"The classifier starts from new weights, for {network.output_shape[-1]} classes; the other "
            f"{len(report.matched)} arrays come from {name}"
        )
    return f"Starting from {name}: {report}"


def binarize_kernels(network: tf.keras.Model) -> None:
    """Sets every latent kernel of a binary layer to its signs, exactly ±1.

    Example:
        >>> recu = bnn_tf.quantizers.ReCU()
        >>> conv = lq.layers.QuantConv2D(8, 3, kernel_quantizer=recu, input_shape=(6, 6, 4))
        >>> network = tf.keras.Sequential([conv])
        >>> binarize_kernels(network)
        >>> np.unique(network.layers[0].get_weights()[0])
        array([-1.,  1.], dtype=float32)
    """
    for layer in network.layers:
        if isinstance(layer, lq.layers.QuantConv2D) and claims_one_bit(layer.kernel_quantizer):
            latent = getattr(layer.kernel, "latent_variable", layer.kernel)
            latent.assign(math.sign(latent_value(layer.kernel)))


def train_only_batch_norm(network: tf.keras.Model) -> None:
    """Freezes every layer but BatchNormalization; compile the network afterwards.

    Example:
        >>> conv = tf.keras.layers.Conv2D(8, 3, input_shape=(6, 6, 4))
        >>> network = tf.keras.Sequential([conv, tf.keras.layers.BatchNormalization(name="norm")])
        >>> train_only_batch_norm(network)
        >>> [variable.name for variable in network.trainable_variables]
        ['norm/gamma:0', 'norm/beta:0']
    """
    for layer in network.layers:
        layer.trainable = isinstance(layer, tf.keras.layers.BatchNormalization)


# ------------------------------------------------------------------------------------------------- teachers


def load_teacher(config: RunConfig, safe: bool = True) -> tf.keras.Model:
    """The teacher that the recipe names (see `bnn_tf.training.sources`), from images to logits.

    Raises:
        UserError: the recipe names none, it does not load, or it is for other images or classes.
    """
    recipe, images = config.recipe, config.recipe.images
    name = recipe.teacher
    if name is None:
        raise UserError(
            "the distribution loss needs a teacher: a run, a saved model, zoo:cifar_resnet20-ovsw, "
            "keras:ResNet50 or larq-zoo:QuickNet"
        )
    kind = sources.require(name, sources.TEACHERS)
    if kind == "run":
        run = Run.open(files.expanded(name))
        expected = run.config.recipe.images
        if (expected.mean, expected.std) != (images.mean, images.std):
            raise UserError(
                f"the teacher {name} takes images with mean {expected.mean} and deviation {expected.std}, "
                f"this recipe has {images.mean} and {images.std}; choose the same normalization"
            )
        teacher = run.load_network()
    elif kind == "zoo":
        record = pretrained.record(name.removeprefix(pretrained.PREFIX))
        own = RunConfig.from_dict(record["config"]).recipe.images
        teacher = _renormalized(load_zoo(name), own, images)
    elif kind == "keras":
        teacher = keras_application(name.removeprefix(sources.KERAS), recipe)
    elif kind == "larq-zoo":
        teacher = _renormalized(load_larq_zoo(name), larq_zoo_images(images.size), images)
    else:
        teacher = load_source(name, safe)
    _check_teacher(teacher, config)
    return teacher


def _renormalized(network: tf.keras.Model, own: Images, images: Images) -> tf.keras.Model:
    """A network for images that are normalised otherwise than its own."""
    if (images.mean, images.std) == (own.mean, own.std):
        return network
    image = tf.keras.Input(network.input_shape[1:])
    unscaled = image * tf.constant(images.std) + tf.constant(images.mean)
    scaled = (unscaled - tf.constant(own.mean)) / tf.constant(own.std)
    return tf.keras.Model(image, network(scaled), name=network.name)


def keras_application(name: str, recipe: Recipe, weights: str | None = "imagenet") -> tf.keras.Model:
    """A network of `tf.keras.applications` that takes images normalised as the recipe does, to logits.

    Raises:
        UserError: there is no such network, or its weights cannot be loaded.
    """
    builders = {key: value for key, value in vars(tf.keras.applications).items() if inspect.isfunction(value)}
    if name not in builders:
        raise unknown("network in keras.applications", name, builders)
    images = recipe.images
    shape = images.input_shape
    try:
        network = builders[name](weights=weights, input_shape=shape, classifier_activation=None)
    except (ValueError, OSError) as error:  # an unsuitable input size; no network
        raise UserError(f"the teacher {sources.KERAS}{name} cannot be loaded: {first_line(error)}") from error
    image = tf.keras.Input(shape)
    pixels = 255 * (image * tf.constant(images.std) + tf.constant(images.mean))
    preprocess = sys.modules[builders[name].__module__].preprocess_input
    return tf.keras.Model(image, network(preprocess(pixels)), name=name)


def _check_teacher(teacher: tf.keras.Model, config: RunConfig) -> None:
    recipe, classes = config.recipe, len(config.class_names)
    if teacher.output_shape[-1] != classes:
        raise UserError(
            f"the teacher {recipe.teacher} knows {teacher.output_shape[-1]} classes, "
            f"{recipe.dataset} has {classes}"
        )
    size, wanted = teacher.input_shape[1:3], recipe.images.size
    if any(has not in (None, wants) for has, wants in zip(size, wanted, strict=True)):
        raise UserError(
            f"the teacher {recipe.teacher} takes images of {size[0]}×{size[1]}, this recipe has "
            f"{wanted[0]}×{wanted[1]}"
        )
