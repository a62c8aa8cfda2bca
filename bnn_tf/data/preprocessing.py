"""How an image becomes the input of a network: a frozen description, stored with every run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError

RGB = tuple[float, float, float]

NORMALIZATIONS: dict[str, tuple[RGB, RGB]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "unit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation per channel of images in [0, 1], by name; `unit` maps to [-1, 1]."""

AUGMENTATIONS = ("pad_crop_flip", "random_resized_crop", "resize_crop_flip", "none")


@dataclass(frozen=True)
class Preprocessing:
    """Augmentation, size and normalisation of images; all fields are plain values, as JSON has them.

    | augmentation | training | evaluation |
    | --- | --- | --- |
    | `none` | fitted to the size | the same |
    | `pad_crop_flip` | fitted, 4 black pixels around, random crop, flip | fitted |
    | `random_resized_crop` | random area and ratio, resized, flip | short side to `resize`, centre crop |
    | `resize_crop_flip` | short side to `resize`, random crop, flip | short side to `resize`, centre crop |

    *Fitted* scales the image, keeping its proportions, until it just covers `image_size`, and cuts out the
    centre; an image that has the size already stays as it is. Resizing is bilinear and, where it shrinks,
    anti-aliased. Geometry happens on (and yields) whole pixel values 0..255, so that deployment can feed
    the same uint8 image.

    Args:
        augmentation: one of the table.
        image_size: height and width of the network's input.
        mean: per channel, of images in [0, 1]; see `NORMALIZATIONS`.
        std: likewise.
        lighting: deviation of the PCA lighting noise in training (0: none; the ImageNet recipes: 0.1).
        crop_scale: smallest and largest share of the image's area for `random_resized_crop`.
        resize: the short side before cropping; None: 8/7 of the larger of `image_size`, that is 256 for 224.

    Raises:
        UsageError: a field has an impossible value.
    """

    augmentation: str = "none"
    image_size: tuple[int, int] = (32, 32)
    mean: RGB = NORMALIZATIONS["unit"][0]
    std: RGB = NORMALIZATIONS["unit"][1]
    lighting: float = 0.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    resize: int | None = None

    def __post_init__(self) -> None:
        for name, length in (("image_size", 2), ("mean", 3), ("std", 3), ("crop_scale", 2)):
            values = tuple(getattr(self, name))  # JSON gives lists
            _require(len(values) == length, f"{name} needs {length} values, not {len(values)}")
            object.__setattr__(self, name, values)
        known = ", ".join(AUGMENTATIONS)
        _require(
            self.augmentation in AUGMENTATIONS, f"augmentation {self.augmentation!r} is not one of {known}"
        )
        _require(min(self.image_size) >= 1, f"image_size {self.image_size} is not positive")
        _require(min(self.std) > 0, f"std {self.std} must be above 0")
        _require(self.lighting >= 0, f"lighting {self.lighting} must not be negative")
        low, high = self.crop_scale
        _require(0 < low <= high, f"crop_scale {self.crop_scale} must be two rising shares above 0")
        _require(
            self.short_side >= max(self.image_size),
            f"resize {self.resize} is smaller than image_size {self.image_size}",
        )

    @property
    def short_side(self) -> int:
        """What `resize` comes to, in pixels."""
        return round(max(self.image_size) * 8 / 7) if self.resize is None else self.resize

    def normalize(self, images: Any) -> Any:
        """`(images / 255 - mean) / std` in float32, for uint8 NumPy arrays and tensors `[..., 3]` alike."""
        scale, offset = self.affine
        if isinstance(images, np.ndarray):
            return images.astype(np.float32) * scale + offset
        return tf.cast(images, tf.float32) * scale + offset

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The `scale` and `offset` (float32, `[3]`) of `normalize`: `images * scale + offset`."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(f"preprocessing: {message}")
