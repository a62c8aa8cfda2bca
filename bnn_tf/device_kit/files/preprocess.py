#!/usr/bin/env python3
"""From a picture to the network's input, with NumPy alone; preprocessing.json holds the sizes and figures.

    python3 preprocess.py PICTURE -o input.bin

PICTURE is a .npy file of uint8 pixels, or a JPEG or PNG where Pillow is installed. `-o x.npy` writes a NumPy
array, any other name the raw little-endian bytes that `lce_benchmark_model` reads.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
Rule = dict[str, Any]


def read_rule(path: Path = HERE / "preprocessing.json") -> Rule:
    """What preprocessing.json says."""
    return json.loads(path.read_text())


def preprocess(image: np.ndarray, rule: Rule) -> np.ndarray:
    """The network's input for one picture.

    The picture is scaled, keeping its proportions, until it just covers `cover`; the centre `crop` of it is
    cut out; each channel becomes `(pixel / 255 - mean) / std`. Where the network takes int8, that is divided
    by the scale, rounded (half away from zero), moved by the zero point, and cut off at -128 and 127.

    Args:
        image: uint8 pixels, `[height, width, 3]` (red, green, blue), `[height, width, 1]` or
            `[height, width]`.
        rule: what `read_rule` returns.

    Returns:
        float32 or int8 `[1, height, width, 3]`; one channel where the network takes the brightness alone.

    Raises:
        ValueError: the array is no such picture.
    """
    pixels = view(image, rule)
    mean, std = np.array(rule["mean"]), np.array(rule["std"])
    scale, offset = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    inputs = (pixels.astype(np.float32) * scale + offset)[None]
    return inputs if rule["quantization"] is None else _quantized(inputs, *rule["quantization"])


def _quantized(inputs: np.ndarray, scale: float, zero: int) -> np.ndarray:
    levels = inputs / np.float32(scale)
    rounded = np.trunc(levels + np.copysign(np.float32(0.5), levels))
    return np.clip(rounded + zero, -128, 127).astype(np.int8)


def view(image: np.ndarray, rule: Rule) -> np.ndarray:
    """The part of a picture that the network sees, still uint8: `[height, width, channels]`."""
    image, cover, crop = _colour(image, rule), rule["cover"], rule["crop"]
    if list(image.shape[:2]) != cover:
        image = resize(image, covering_size(image.shape[:2], cover))
    top, left = ((have - want) // 2 for have, want in zip(image.shape, crop))  # noqa: B905
    return image[top : top + crop[0], left : left + crop[1]]


def covering_size(size: tuple[int, ...], cover: list[int]) -> tuple[int, ...]:
    """`size`, scaled in proportion to the smallest that covers `cover`."""
    shape = np.array(size, np.float32)
    factor = (np.array(cover, np.float32) / shape).max()
    return tuple(int(side) for side in np.maximum(np.round(shape * factor), cover))


def resize(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bilinear, anti-aliased where it shrinks, rounded to whole pixels (to even ones at a half).

    Equals `tf.image.resize(image, size, antialias=True)`: pixel centres lie at half a pixel; the triangle
    filter is as wide as two pixels of the smaller picture and its weights sum to 1.
    """
    scaled = _along_rows(image.astype(np.float32), size[0])
    scaled = _along_rows(scaled.transpose(1, 0, 2), size[1]).transpose(1, 0, 2)
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def _along_rows(image: np.ndarray, size: int) -> np.ndarray:
    starts, weights = _filters(image.shape[0], size)
    result = np.zeros((size, *image.shape[1:]), np.float32)
    for tap in range(weights.shape[1]):
        rows = np.minimum(starts + tap, image.shape[0] - 1)  # taps past the end have weight 0
        result += weights[:, tap, None, None] * image[rows]
    return result


def _filters(have: int, want: int) -> tuple[np.ndarray, np.ndarray]:
    """First row and weights for each row of the result; single precision, as TensorFlow computes them."""
    one, half = np.float32(1), np.float32(0.5)
    step = one / (np.float32(want) / np.float32(have))
    reach = max(step, one)
    centres = (np.arange(want, dtype=np.float32) + half) * step
    starts = np.maximum(np.ceil(centres - reach - half), 0).astype(np.int64)
    ends = np.minimum(np.floor(centres + reach - half), have - 1).astype(np.int64)
    rows = starts[:, None] + np.arange((ends - starts).max() + 1)
    distances = np.abs((rows.astype(np.float32) + half - centres[:, None]) * (one / reach))
    weights = np.where(rows <= ends[:, None], np.maximum(one - distances, 0), 0).astype(np.float32)
    total = np.zeros(want, np.float32)
    for tap in range(weights.shape[1]):
        total += weights[:, tap]
    return starts, weights * (one / total)[:, None]


def _colour(image: np.ndarray, rule: Rule) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"a picture is uint8 [height, width, channels], not {image.dtype} {image.shape}")
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"a picture has one channel or three, not the shape {image.shape}")
    channels = rule["shape"][-1]
    if channels == 1 and image.shape[2] == 3:
        shares = np.array([0.299, 0.587, 0.114], np.float32)
        grey = (image.astype(np.float32) * shares).sum(axis=2, keepdims=True)
        return np.round(grey).astype(np.uint8)
    return image if image.shape[2] == channels else np.repeat(image, 3, axis=2)


def read_picture(path: Path) -> np.ndarray:
    """The pixels of a .npy file, or of any picture that Pillow reads."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    try:
        from PIL import Image
    except ImportError:
        raise ValueError(f"{path.name} needs Pillow (pip install pillow), or make it a .npy") from None
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def write_array(path: Path, array: np.ndarray) -> None:
    """A .npy file, or raw little-endian bytes."""
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Turns a picture into the network's input.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        write_array(options.output, preprocess(read_picture(options.picture), read_rule()))
    except (OSError, ValueError) as error:
        sys.exit(f"preprocess.py: {error}")


if __name__ == "__main__":
    main()
