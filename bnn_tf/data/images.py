"""From a stored image to the input of a network: what happens in training, and what in evaluation.

`Images` describes it as a value. An image goes this way:

1. it is decoded (`decode`) and gets the network's number of channels;
2. a *view* brings it to the network's size: in training the first operation, if it is one (a random crop), in
   evaluation the setting `evaluation`;
3. in training, operations on *pixels* change whole batches of such views, still uint8;
4. it is normalised to float32, `(pixel / 255 - mean) / std`;
5. in training, operations on *inputs* change whole batches of those.

An operation draws no random numbers. It gets them: each position of an epoch has a row of uniform numbers in
[0, 1), of which every operation has its own columns. So an operation is a pure function, a test can choose
its numbers, and a run repeats exactly.

Everything but calling it works without TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, first_line, unknown
from bnn_tf.registry import Registry
from bnn_tf.values import NotNegative, Positive, Range, Value, check, resolve

Size = tuple[int, int]
RGB = tuple[float, float, float]

NORMALIZATIONS: dict[str, tuple[RGB, RGB]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "unit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation per channel of images in [0, 1], by name; `unit` maps to [-1, 1]."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the brightness (ITU-R BT.601), for networks with one channel."""

OPERATIONS: Registry[type[Operation]] = Registry("image operation", "bnn_tf.image_operations")
"""The operations by the names under which they are stored in a run's configuration."""

MAX_PIXELS = 100_000_000
"""Larger images are refused: one of 20,000×20,000 would take gigabytes, several times over."""

ATTEMPTS = 10
"""Boxes that `RandomResizedCrop` tries before it falls back on the centre."""

# Principal components of the colours of ImageNet's pixels in [0, 1] (Krizhevsky et al., NeurIPS 2012).
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)

# TensorFlow's default, the fast one, shifts the mean of red and blue by about one level of 255 and differs
# from what the papers' image library computes.
_JPEG_TRANSFORM = "INTEGER_ACCURATE"


class Operation(Value):
    """Something that training does to images; the base class for your own.

    Subclasses are frozen dataclasses, registered under a name. Their fields are their settings.

    Attributes:
        stage: What `__call__` takes and returns. `"view"`: one image, uint8 `[h, w, c]` of any size, to
            `[*settings.size, c]`; only the first operation can be a view. `"pixels"`: a batch of views, uint8
            `[b, h, w, c]`, to the same. `"inputs"`: a normalised batch, float32 `[b, h, w, c]`, to the same.
        draws: How many random numbers an image takes.

    Example:
        >>> @OPERATIONS.register("darken")
        ... @dataclasses.dataclass(frozen=True)
        ... class Darken(Operation):
        ...     half_of: float = 0.5
        ...     draws: ClassVar[int] = 1
        ...
        ...     def __call__(self, images, draws, settings):
        ...         return tf.where(draws[:, :, None, None] < self.half_of, images // 2, images)
        >>> Images(training=(PadCrop(4), Darken())).to_dict()["training"][1]
        {'name': 'darken', 'half_of': 0.5}
    """

    kind: ClassVar[str] = "image operation"
    registry: ClassVar[Registry] = OPERATIONS
    stage: ClassVar[str] = "pixels"
    draws: ClassVar[int] = 0
    # Columns at the beginning of every row, which this operation has wherever it stands in the list.
    _own_columns: ClassVar[slice | None] = None

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """Changes a batch of images (a view: one image).

        Args:
            images: See `stage`.
            draws: Uniform random numbers in [0, 1), float32 `[b, self.draws]` (a view: `[self.draws]`).
            settings: Size, channels, mean and deviation of what is prepared.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def suits(self, epochs: int) -> bool:
        """Whether trainings of this number of epochs in all use it."""
        return True


class Geometry(Operation):
    """How evaluation brings an image to the network's size: scaled, then the centre is cut out.

    A subclass says which rectangle the scaled image must just cover. It can also stand first in the list for
    training.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Double(Geometry):
        ...     def cover(self, size):
        ...         return 2 * size[0], 2 * size[1]
        >>> image = tf.zeros((90, 70, 3), tf.uint8)
        >>> Double()(image, tf.zeros(0), Images(size=32)).shape
        TensorShape([32, 32, 3])
    """

    stage: ClassVar[str] = "view"

    def cover(self, size: Size) -> Size:
        """Height and width that the scaled image must cover, for a network of this input size."""
        raise NotImplementedError(f"{type(self).__name__} must define cover")

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """Scales an image, or each of a batch, and cuts the centre out."""
        return centre_crop(resize_to_cover(images, self.cover(settings.size)), settings.size)


@OPERATIONS.register("cover")
@dataclasses.dataclass(frozen=True)
class Cover(Geometry):
    """Scales an image, keeping its proportions, until it just covers the network's size.

    An image that has the size already stays as it is.

    Example:
        >>> Cover()(tf.zeros((60, 90, 3), tf.uint8), tf.zeros(0), Images(size=32)).shape
        TensorShape([32, 32, 3])
    """

    def cover(self, size: Size) -> Size:
        """The network's size itself."""
        return size


@OPERATIONS.register("resize_short")
@dataclasses.dataclass(frozen=True)
class ResizeShort(Geometry):
    """Scales an image so that its short side is `ratio` times the network's larger side.

    Args:
        ratio: At least 1; the default makes the short side 256 for a network of 224.

    Example:
        >>> ResizeShort(256 / 224).cover((224, 224))
        (256, 256)
    """

    ratio: Annotated[float, Range(least=1)] = 8 / 7

    def cover(self, size: Size) -> Size:
        """The short side, twice."""
        short = round(max(size) * self.ratio)
        return short, short


@OPERATIONS.register("random_resized_crop")
@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Operation):
    """A view of a random share of the area and a random ratio of width to height, scaled to the size.

    Of a JPEG no more than the crop is decoded.

    Args:
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest ratio of width to height.

    Example:
        >>> view = RandomResizedCrop(scale=(0.2, 1.0))
        >>> image, draws = tf.zeros((60, 90, 3), tf.uint8), tf.random.uniform((view.draws,))
        >>> view(image, draws, Images(size=32)).shape
        TensorShape([32, 32, 3])
    """

    scale: tuple[Positive, Positive] = (0.08, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    stage: ClassVar[str] = "view"
    draws: ClassVar[int] = 2 + 2 * ATTEMPTS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.scale[0] <= self.scale[1], f"scale must rise, not be {self.scale}")
        self.require(self.ratio[0] <= self.ratio[1], f"ratio must rise, not be {self.ratio}")

    def box(self, shape: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """What is cut out of an image of this height and width.

        The share of the area is uniform in `scale`, the logarithm of the ratio uniform. The first of
        `ATTEMPTS` boxes that fits is taken; if none does, the largest centred one whose ratio is allowed.

        Args:
            shape: Height and width of the image, `[2]`.
            draws: `[2 + 2 * ATTEMPTS]`: the position, then share and ratio of each attempt.

        Returns:
            int32 `[4]`: top, left, height, width.
        """
        shape = tf.cast(shape, tf.int32)
        full = tf.cast(shape, tf.float32)
        tries = tf.reshape(draws[2:], [ATTEMPTS, 2])
        low, high = np.log(self.ratio).astype(np.float32)
        areas = full[0] * full[1] * (self.scale[0] + tries[:, 0] * (self.scale[1] - self.scale[0]))
        ratios = tf.exp(low + tries[:, 1] * (high - low))
        boxes = tf.cast(tf.round(tf.sqrt(tf.stack([areas / ratios, areas * ratios], axis=1))), tf.int32)
        fits = tf.reduce_all((boxes >= 1) & (boxes <= shape), axis=1)
        any_fits = tf.reduce_any(fits)
        box = tf.where(any_fits, boxes[tf.argmax(tf.cast(fits, tf.int32))], self._largest(full))
        corner = tf.where(any_fits, integer(draws[:2], shape - box + 1), (shape - box) // 2)
        return tf.concat([corner, box], axis=0)

    def _largest(self, shape: tf.Tensor) -> tf.Tensor:
        height, width = shape[0], shape[1]
        limited = [tf.minimum(height, width / self.ratio[0]), tf.minimum(width, height * self.ratio[1])]
        return tf.maximum(tf.cast(tf.round(tf.stack(limited)), tf.int32), 1)

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """One image to a view."""
        return resize(crop(images, self.box(tf.shape(images)[:2], draws)), settings.size)


@OPERATIONS.register("resize_crop")
@dataclasses.dataclass(frozen=True)
class ResizeCrop(Operation):
    """A view at a random place of the image that `ResizeShort(ratio)` scales.

    Args:
        ratio: Of the scaled image's short side to the network's larger side, at least 1.

    Example:
        >>> image, draws = tf.zeros((60, 90, 3), tf.uint8), tf.random.uniform((2,))
        >>> ResizeCrop(ratio=1.25)(image, draws, Images(size=32)).shape
        TensorShape([32, 32, 3])
    """

    ratio: Annotated[float, Range(least=1)] = 8 / 7
    stage: ClassVar[str] = "view"
    draws: ClassVar[int] = 2

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """One image to a view."""
        scaled = resize_to_cover(images, ResizeShort(self.ratio).cover(settings.size))
        corner = integer(draws, tf.shape(scaled)[:2] - settings.size + 1)
        return _cut(scaled, corner, settings.size)


@OPERATIONS.register("pad_crop")
@dataclasses.dataclass(frozen=True)
class PadCrop(Operation):
    """Pads each side with black and cuts each image back to its size at a random place.

    Args:
        padding: Pixels added at each of the four sides.
        from_epochs: Trainings of fewer epochs in all leave the images as they are; they see each too seldom
            to learn it by heart.

    Example:
        >>> images, draws = tf.ones((1, 3, 3, 1), tf.uint8), tf.zeros((1, 2))  # the upper left corner
        >>> PadCrop(padding=1)(images, draws, Images(size=3, channels=1)).numpy()[0, :, :, 0]
        array([[0, 0, 0],
               [0, 1, 1],
               [0, 1, 1]], dtype=uint8)
    """

    padding: Annotated[int, Range(least=0)] = 4
    from_epochs: Annotated[int, Range(least=0)] = 0
    draws: ClassVar[int] = 2

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """Pads and crops a batch; the draws are for the top and the left of each crop."""
        height, width = images.shape[1], images.shape[2]
        margins = [[0, 0], [self.padding, self.padding], [self.padding, self.padding], [0, 0]]
        corner = integer(draws, 2 * self.padding + 1)
        rows = corner[:, :1] + tf.range(height)
        columns = corner[:, 1:] + tf.range(width)
        kept = tf.gather(tf.pad(images, margins), rows, axis=1, batch_dims=1)
        return tf.gather(kept, columns, axis=2, batch_dims=1)

    def suits(self, epochs: int) -> bool:
        """Whether the training is long enough."""
        return epochs >= self.from_epochs


@OPERATIONS.register("flip")
@dataclasses.dataclass(frozen=True)
class Flip(Operation):
    """Mirrors left and right half of the images.

    Example:
        >>> images = tf.reshape(tf.constant([1, 2, 3, 1, 2, 3], tf.uint8), (2, 1, 3, 1))
        >>> Flip()(images, tf.constant([[0.2], [0.8]]), Images(channels=1)).numpy().reshape(2, 3)
        array([[3, 2, 1],
               [1, 2, 3]], dtype=uint8)
    """

    draws: ClassVar[int] = 1
    _own_columns: ClassVar[slice | None] = slice(0, 1)

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """Flips the images of a batch whose draw is below 1/2."""
        columns = tf.range(images.shape[2])
        columns = tf.where(draws < 0.5, columns[::-1], columns)
        return tf.gather(images, columns, axis=2, batch_dims=1)  # several times faster than a reversed slice


@OPERATIONS.register("lighting")
@dataclasses.dataclass(frozen=True)
class Lighting(Operation):
    """PCA lighting noise (Krizhevsky et al., NeurIPS 2012) on images of three channels; see `lighting`.

    Args:
        deviation: Of the noise on each principal component; the ImageNet recipes have 0.1.

    Example:
        >>> images = tf.zeros((2, 32, 32, 3))
        >>> lit = Lighting(deviation=0.1)(images, tf.random.uniform((2, 3)), Images())
        >>> np.ptp(lit[0], axis=(0, 1)).tolist()  # one colour for the whole image
        [0.0, 0.0, 0.0]
    """

    deviation: NotNegative = 0.1
    stage: ClassVar[str] = "inputs"
    draws: ClassVar[int] = 3
    _own_columns: ClassVar[slice | None] = slice(1, 4)

    def __call__(self, images: tf.Tensor, draws: tf.Tensor, settings: Images) -> tf.Tensor:
        """Adds one colour to each image of a batch."""
        added = lighting(self.deviation * normal(draws)) / settings.std
        return images + added[:, None, None, :]


_GREY = "grey: 0.299 red + 0.587 green + 0.114 blue, rounded"
_STAGES = ("view", "pixels", "inputs")
_RESERVED = 4  # columns for operations with `_own_columns`
Side = Annotated[int, Range(least=1, most=2**15)]


@dataclasses.dataclass(frozen=True)
class Images:
    """How images become inputs of a network: augmentation, geometry, size, channels, normalisation.

    Resizing is bilinear and, where it shrinks, anti-aliased. Geometry happens on (and yields) whole pixel
    values 0..255, so that deployment can feed the same uint8 image.

    Args:
        training: What training does, in order: at most one view (which must come first, `RandomResizedCrop`,
            `ResizeCrop`), operations on pixels (`PadCrop`, `Flip`), operations on inputs (`Lighting`).
            Without a view, images are brought to the size as in evaluation.
        evaluation: How evaluation brings images to the size: `Cover()` or `ResizeShort()`.
        size: Height and width of the network's input; one number stands for both.
        channels: 3 (red, green, blue) or 1 (brightness).
        mean: Per channel, of images in [0, 1]; one value stands for all.
        std: Standard deviation, likewise.
        normalization: One of `NORMALIZATIONS`, in place of `mean` and `std`.

    Raises:
        UsageError: a field has an impossible value; the message names it.

    Example:
        >>> images = Images((PadCrop(4), Flip()), size=32, normalization="cifar")
        >>> images.mean
        (0.491, 0.482, 0.447)
        >>> Images.from_dict(images.to_dict()) == images
        True
        >>> dataclasses.replace(images, size=(64, 48)).size
        (64, 48)
    """

    training: tuple[Operation, ...] = ()
    evaluation: Geometry = Cover()
    size: Size = (32, 32)
    channels: int = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    normalization: dataclasses.InitVar[str | None] = None

    def __post_init__(self, normalization: str | None) -> None:
        self._set("channels", Literal[1, 3])
        if normalization is not None:
            mean, std = _statistics(normalization, self.channels)
            object.__setattr__(self, "mean", mean)
            object.__setattr__(self, "std", std)
        if isinstance(self.size, int):
            object.__setattr__(self, "size", (self.size, self.size))
        self._set("size", tuple[Side, Side])
        for name, kind in (("mean", float), ("std", Positive)):
            value = getattr(self, name)
            if isinstance(value, (int, float)) or (isinstance(value, (tuple, list)) and len(value) == 1):
                single = value if isinstance(value, (int, float)) else value[0]
                object.__setattr__(self, name, (single,) * self.channels)
            self._set(name, tuple[(kind,) * self.channels])  # type: ignore[misc]
        self._set("evaluation", Geometry)
        cover = self.evaluation.cover(self.size)
        if any(have < want for have, want in zip(cover, self.size, strict=True)):
            raise UsageError(f"images: evaluation must cover the size {self.size}, not only {cover}")
        self._set("training", tuple[Operation, ...])
        stages = [_STAGES.index(operation.stage) for operation in self.training]
        if stages != sorted(stages) or stages.count(0) > 1:
            raise UsageError(
                "images: training must have at most one view and that first, then operations on pixels, "
                f"then those on inputs (Lighting), not {self.training}"
            )
        if self.channels == 1 and any(isinstance(operation, Lighting) for operation in self.training):
            raise UsageError("images: training cannot have Lighting with one channel")

    def _set(self, name: str, kind: Any) -> None:
        object.__setattr__(self, name, check(f"images: {name}", getattr(self, name), kind))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Images:
        """What `to_dict` returned, also after a detour through JSON.

        Raises:
            UsageError: there is no such field or operation, or a value is impossible.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in (*names, "normalization"):
                raise unknown("setting of images", name, names)
        fields = dict(values)
        if isinstance(fields.get("training"), (list, tuple)):
            fields["training"] = tuple(resolve(Operation, item) for item in fields["training"])
        if "evaluation" in fields:
            fields["evaluation"] = resolve(Geometry, fields["evaluation"])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON has them; operations as `{"name": …, setting: …}`."""
        values = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {
            **values,
            "training": [_plain(operation.get_config()) for operation in self.training],
            "evaluation": _plain(self.evaluation.get_config()),
        }

    def contract(self, labels: Sequence[str] = ()) -> dict[str, Any]:
        """What a program must do to a picture before the network sees it, as JSON has it.

        It holds the evaluation's preprocessing and no augmentation. `mean` and `std` are those of pixels in
        [0, 1]; `labels` name the classes in the order of the outputs.

        Example:
            >>> contract = Images(evaluation=ResizeShort(), size=224).contract(["cat", "dog"])
            >>> contract["cover"], contract["crop"], contract["labels"]
            ([256, 256], [224, 224], ['cat', 'dog'])
        """
        return {
            "cover": list(self.evaluation.cover(self.size)),
            "crop": list(self.size),
            "resize": "in proportion, to the smallest size that covers `cover`; bilinear with half-pixel "
            "centres, anti-aliased, rounded to whole pixels; not at all where the size is `cover` already",
            "position": "centre",
            "mean": list(self.mean),
            "std": list(self.std),
            "formula": "(pixel / 255 - mean) / std",
            "channels": "RGB" if self.channels == 3 else _GREY,
            "layout": "NHWC",
            "shape": [1, *self.input_shape],
            "dtype": "float32",
            "quantization": None,
            "labels": list(labels),
        }

    @classmethod
    def from_contract(cls, contract: Mapping[str, Any]) -> Images:
        """The evaluation that a contract describes; it knows no training.

        Raises:
            UsageError: an entry is missing or impossible.

        Example:
            >>> images = Images(evaluation=ResizeShort(), size=224, normalization="imagenet")
            >>> Images.from_contract(images.contract()) == images
            True
        """
        try:
            size, cover, channels = list(contract["crop"]), list(contract["cover"]), contract["shape"][-1]
            geometry: Geometry = Cover() if cover == size else ResizeShort(cover[0] / max(size))
            images = cls((), geometry, tuple(size), channels, tuple(contract["mean"]), tuple(contract["std"]))
        except (KeyError, IndexError, TypeError, ArithmeticError) as error:
            raise UsageError(f"images: the contract lacks or misstates {first_line(error)}") from error
        if list(images.evaluation.cover(images.size)) != cover:
            raise UsageError(f"images: the contract has the cover {cover}, which is no square and not {size}")
        return images

    def with_channels(self, channels: int) -> Images:
        """The same for a network with 1 or 3 channels; the normalisation is converted.

        Brightness gets the mean and deviation weighted as `LUMA`, because the channels of photographs go
        together; lighting, which needs three channels, is left out.
        """
        if channels == self.channels:
            return self
        if channels == 1:
            training = tuple(op for op in self.training if not isinstance(op, Lighting))
            brightness = _brightness(self.mean), _brightness(self.std)
            return Images(training, self.evaluation, self.size, 1, *brightness)
        mean, std = (values[:1] for values in (self.mean, self.std))
        return dataclasses.replace(self, channels=channels, mean=mean, std=std)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return (*self.size, self.channels)

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The `scale` and `offset` (float32, `[channels]`) of `normalize`: `images * scale + offset`."""
        return _affine(self.mean, self.std)

    def normalize(self, images: Any) -> Any:
        """`(images / 255 - mean) / std` in float32, for uint8 NumPy arrays and tensors alike."""
        return normalize(images, self.mean, self.std)

    def _columns(self) -> list[slice]:
        """Which of an image's random numbers each operation takes.

        Flip and Lighting have the first four of every row. So whether lighting is on changes no crop.
        """
        columns, taken, end = [], set(), _RESERVED
        for operation in self.training:
            own = operation._own_columns
            if own is None or own.start in taken:
                own, end = slice(end, end + operation.draws), end + operation.draws
            taken.add(own.start)
            columns.append(own)
        return columns

    @property
    def draws(self) -> int:
        """How many uniform random numbers one image takes in training."""
        return max([_RESERVED, *(columns.stop for columns in self._columns())])

    @property
    def has_random_view(self) -> bool:
        """Whether training's views take random numbers; operations on whole batches do not count."""
        return any(operation.stage == "view" and operation.draws for operation in self.training)

    def _view(self, draws: tf.Tensor | None) -> tuple[Operation, tf.Tensor]:
        """What brings images to the size, and its part of the draws: in training the first operation may."""
        if draws is not None and self.training and self.training[0].stage == "view":
            return self.training[0], draws[..., self._columns()[0]]
        return self.evaluation, tf.zeros([0])

    def view(self, contents: tf.Tensor, draws: tf.Tensor | None = None) -> tf.Tensor:
        """An encoded image as uint8 `[*size, channels]`: as training sees it with `draws` `[self.draws]`.

        Without `draws` as evaluation sees it. Of a JPEG no more than a random crop is decoded.
        """
        operation, own = self._view(draws)
        if isinstance(operation, RandomResizedCrop):
            part = _decoded_part(contents, operation, own)
            image = resize(to_channels(part, self.channels), self.size)
        else:
            image = operation(to_channels(decode(contents), self.channels), own, self)
        return tf.ensure_shape(image, self.input_shape)

    def views(self, images: tf.Tensor, draws: tf.Tensor | None = None) -> tf.Tensor:
        """Decoded images `[b, h, w, 1 or 3]` as uint8 `[b, *size, channels]`; `draws` `[b, self.draws]`."""
        images = to_channels(images, self.channels)
        operation, own = self._view(draws)
        if isinstance(operation, Geometry):
            return operation(images, own, self)
        return tf.map_fn(
            lambda pair: tf.ensure_shape(operation(pair[0], pair[1], self), self.input_shape),
            (images, own),
            fn_output_signature=tf.TensorSpec(self.input_shape, tf.uint8),
        )

    def augment(self, views: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Training's operations on the pixels of a batch of views; uint8 `[b, *size, channels]` to uint8."""
        return self._apply("pixels", views, draws)

    def inputs(self, views: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Normalises a batch of views for training and applies the operations on inputs; float32."""
        return self._apply("inputs", self.normalize(views), draws)

    def _apply(self, stage: str, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        for operation, columns in zip(self.training, self._columns(), strict=True):
            if operation.stage == stage:
                images = operation(images, draws[:, columns], self)
        return images


def _affine(mean: Sequence[float], std: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    means, deviations = np.array(mean), np.array(std)
    return (1 / (255 * deviations)).astype(np.float32), (-means / deviations).astype(np.float32)


def normalize(images: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """`(images / 255 - mean) / std` per channel in float32, for uint8 NumPy arrays and tensors alike.

    Example:
        >>> normalize(np.array([[[[0], [255]]]], np.uint8), mean=(0.5,), std=(0.25,)).ravel()
        array([-2.,  2.], dtype=float32)
    """
    scale, offset = _affine(mean, std)
    if isinstance(images, np.ndarray):
        return images.astype(np.float32) * scale + offset
    return tf.cast(images, tf.float32) * scale + offset


def decode(contents: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """An encoded image as uint8 `[h, w, channels]`.

    JPEG, PNG, GIF (first frame) and BMP, and where Pillow is installed WebP, TIFF (first page), PPM and
    PGM. An alpha channel is dropped, as Pillow's `convert("RGB")` drops it: a transparent pixel has the
    colour that is stored with it.

    Raises:
        tf.errors.InvalidArgumentError: the image is damaged, of another kind, or has more than `MAX_PIXELS`.
    """

    def of_jpeg() -> tf.Tensor:
        bounded = _bounded(contents, tf.image.extract_jpeg_shape(contents))
        return tf.io.decode_jpeg(bounded, channels=channels, dct_method=_JPEG_TRANSFORM)

    image = tf.cond(tf.io.is_jpeg(contents), of_jpeg, lambda: _decode_other(contents, channels))
    return tf.ensure_shape(image, [None, None, channels])


def _bounded(contents: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """The contents, unless an image of that height and width would be too large to decode."""
    pixels = tf.reduce_prod(tf.cast(shape[:2], tf.float64))
    with tf.control_dependencies([tf.debugging.Assert(pixels <= MAX_PIXELS, ["too many pixels", pixels])]):
        return tf.identity(contents)


def _decode_other(contents: tf.Tensor, channels: int) -> tf.Tensor:
    def whole() -> tf.Tensor:
        start = tf.strings.substr(contents, 0, 26)  # which a PNG, GIF or BMP has its size in
        shape = tf.numpy_function(_shape, [start], tf.float64, stateful=False)
        return tf.io.decode_image(_bounded(contents, shape), channels=channels, expand_animations=False)

    if not _has_pillow():
        return whole()
    starts = [tf.strings.substr(contents, 0, len(mark)) == mark for mark in _PILLOW_MARKS]
    return tf.cond(
        tf.reduce_any(starts),
        lambda: tf.numpy_function(
            functools.partial(_decode_by_pillow, channels), [contents], tf.uint8, False
        ),
        whole,
    )


def _shape(start: Any) -> np.ndarray:
    """`size` for graphs; 0 by 0 where it is not known."""
    return np.array(size(_as_bytes(start)) or (0, 0), np.float64)


def _as_bytes(contents: Any) -> bytes:
    return contents if isinstance(contents, bytes) else contents.item()  # graphs pass an array of objects


def _has_pillow() -> bool:
    return importlib.util.find_spec("PIL") is not None


def _decode_by_pillow(channels: int, contents: Any) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(_as_bytes(contents)), formats=_PILLOW_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("too many pixels")
        if image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "P", "1", "CMYK", "YCbCr"):
            raise ValueError(f"the image has {image.mode} pixels, not 8-bit ones")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def suffixes() -> tuple[str, ...]:
    """How the names of images end that `decode` can read."""
    return (".jpg", ".jpeg", ".png", ".bmp", ".gif", *(PILLOW_SUFFIXES if _has_pillow() else ()))


def kind(contents: bytes) -> str | None:
    """The kind of an encoded image by its first bytes; `None` where `decode` cannot read it.

    Example:
        >>> kind(b"GIF89a")
        'GIF'
    """
    marks = {**_MARKS, **(_PILLOW_MARKS if _has_pillow() else {})}
    return next((name for mark, name in marks.items() if contents.startswith(mark)), None)


_MARKS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",  # TensorFlow reads whatever version follows
    b"BM": "BMP",
    b"\xff\xd8\xff": "JPEG",
}
_PILLOW_MARKS = {b"RIFF": "WebP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"P5": "PGM", b"P6": "PPM"}
_PILLOW_FORMATS = ("WEBP", "TIFF", "PPM")
PILLOW_SUFFIXES = (".webp", ".tif", ".tiff", ".ppm", ".pgm")


def size(contents: bytes) -> Size | None:
    """The height and width of an encoded image, read from its beginning alone.

    `None` where it is no image that `decode` can read, or is cut off before its size.

    Example:
        >>> size(b"GIF89a" + bytes([3, 0, 2, 0]))
        (2, 3)
    """
    with contextlib.suppress(struct.error, IndexError):
        match kind(contents):
            case "PNG":
                width, height = struct.unpack_from(">II", contents, 16)
                return height, width
            case "GIF":
                width, height = struct.unpack_from("<HH", contents, 6)
                return height, width
            case "BMP":
                width, height = struct.unpack_from("<ii", contents, 18)
                return abs(height), abs(width)
            case "JPEG":
                return _jpeg_size(contents)
            case "WebP" | "TIFF" | "PPM" | "PGM":
                return _pillow_size(contents)
    return None


def _jpeg_size(contents: bytes) -> tuple[int, int]:
    """Height and width from the first frame header; the segments before it are skipped by their lengths."""
    place = 2
    while True:
        while contents[place + 1] == 0xFF:  # padding
            place += 1
        marker, length = contents[place + 1], struct.unpack_from(">H", contents, place + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", contents, place + 5)
        place += 2 + length


def _pillow_size(contents: bytes) -> Size | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(contents), formats=_PILLOW_FORMATS) as image:
            return image.height, image.width
    except Exception:  # Pillow raises errors of many kinds for damaged files
        return None


def _decoded_part(contents: tf.Tensor, view: RandomResizedCrop, draws: tf.Tensor) -> tf.Tensor:
    """The part of an encoded image that a view shows, before it is resized."""

    def of_jpeg() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(contents)
        bounded, box = _bounded(contents, shape), view.box(shape[:2], draws)
        return tf.image.decode_and_crop_jpeg(bounded, box, channels=3, dct_method=_JPEG_TRANSFORM)

    def of_other() -> tf.Tensor:
        image = tf.ensure_shape(_decode_other(contents, 3), [None, None, 3])
        return crop(image, view.box(tf.shape(image)[:2], draws))

    return tf.cond(tf.io.is_jpeg(contents), of_jpeg, of_other)


def to_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Images `[..., 1 or 3]` with `channels` channels: grey is repeated, colours become brightness."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return tf.repeat(images, 3, axis=-1)
    grey = tf.reduce_sum(tf.cast(images, tf.float32) * LUMA, axis=-1, keepdims=True)
    return tf.saturate_cast(tf.round(grey), tf.uint8)


def integer(draws: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Uniform integers 0..count-1 (int32) from uniform numbers in [0, 1)."""
    return tf.cast(draws * tf.cast(count, tf.float32), tf.int32)


def crop(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """The part of an image `[h, w, c]` (or of each of a batch) in a box of top, left, height and width."""
    return image[..., box[0] : box[0] + box[2], box[1] : box[1] + box[3], :]


def resize(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Bilinear, anti-aliased where it shrinks; rounded to uint8. `[h, w, c]` or `[b, h, w, c]`."""
    return tf.saturate_cast(tf.round(tf.image.resize(images, size, antialias=True)), tf.uint8)


def resize_to_cover(images: tf.Tensor, size: Size) -> tf.Tensor:
    """Scales, keeping proportions, to the smallest size at least `size`."""
    height, width = images.shape[-3], images.shape[-2]
    if height is not None and (height, width) == tuple(size):
        return images
    shape = tf.shape(images)[-3:-1]
    factor = tf.reduce_max(tf.constant(size, tf.float32) / tf.cast(shape, tf.float32))
    scaled = tf.cast(tf.round(tf.cast(shape, tf.float32) * factor), tf.int32)
    return resize(images, tf.maximum(scaled, size))


def centre_crop(images: tf.Tensor, size: Size) -> tf.Tensor:
    """The centre, `size` high and wide; of one image or of each of a batch."""
    return _cut(images, (tf.shape(images)[-3:-1] - size) // 2, size)


def _cut(images: tf.Tensor, corner: tf.Tensor, size: Size) -> tf.Tensor:
    """The part `size` high and wide below and right of a corner."""
    cut = crop(images, tf.concat([corner, size], axis=0))
    return tf.ensure_shape(cut, [*images.shape[:-3], *size, images.shape[-1]])


def lighting(alphas: tf.Tensor) -> tf.Tensor:
    """PCA lighting: what is added to the channels of an image in [0, 1].

    `eigenvectors @ (alpha * eigenvalues)` with the principal components of ImageNet's colours
    (Krizhevsky et al., NeurIPS 2012).

    Args:
        alphas: Normally distributed `[b, 3]`, of deviation 0.1 in the papers' recipes.

    Returns:
        float32 `[b, 3]`, red, green, blue.
    """
    return tf.linalg.matmul(alphas * EIGENVALUES, EIGENVECTORS, transpose_b=True)


def normal(draws: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers from uniform ones (the inverse of the normal distribution function)."""
    return tf.math.ndtri(tf.clip_by_value(draws, 1e-6, 1 - 1e-6))


def _statistics(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if name not in NORMALIZATIONS:
        raise unknown("normalization", name, NORMALIZATIONS)
    mean, std = NORMALIZATIONS[name]
    return (mean, std) if channels == 3 else (_brightness(mean), _brightness(std))


def _brightness(values: tuple[float, ...]) -> tuple[float]:
    return (round(sum(share * value for share, value in zip(LUMA, values, strict=True)), 6),)


def _plain(value: Any) -> Any:
    """Tuples as lists, at any depth, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
