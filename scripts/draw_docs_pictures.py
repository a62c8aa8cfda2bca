#!/usr/bin/env python
"""Draws the pictures of the documentation with the library's own formulas, as SVG files into docs/pictures.

    python scripts/draw_docs_pictures.py [--run RUN]

With `--run`, the training curve of that run directory is drawn as well (`training_curve.svg`).
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnn_tf  # noqa: F401  (before TensorFlow: it selects Keras 2)
from bnn_tf import codebook, math
from bnn_tf._tensorflow import tf

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
BLUE, ORANGE, GREY = "#1f6feb", "#d9730d", "#8c959f"


def forward_and_gradient(ax: plt.Axes, function, x: np.ndarray) -> None:
    """Draws y(x) and dy/dx of an elementwise function."""
    inputs = tf.constant(x[:, None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    gradient = tape.gradient(outputs, inputs)
    ax.plot(x, outputs.numpy()[:, 0], color=BLUE, label="forward")
    ax.plot(x, gradient.numpy()[:, 0], color=ORANGE, label="gradient")
    ax.axhline(0, color=GREY, lw=0.6)
    ax.set_xlabel("x")


def approx_sign() -> plt.Figure:
    """The sign of activations with its triangular gradient."""
    figure, ax = plt.subplots(figsize=(5, 3))
    from bnn_tf.quantizers import ApproxSign

    forward_and_gradient(ax, ApproxSign(), np.linspace(-1.8, 1.8, 721))
    ax.legend(frameon=False)
    return figure


def recu_clamp() -> plt.Figure:
    """A standardised kernel before and after the clamp at three τ."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True)
    kernel = tf.constant(np.random.default_rng(0).laplace(size=(3, 3, 64, 64)), tf.float32)
    before = math.recu_standardize(kernel).numpy().ravel()
    bins = np.linspace(-12, 12, 97)
    for ax, tau in zip(axes, (0.85, 0.93, 0.99), strict=True):
        after = math.recu_clamp(kernel, tau).numpy().ravel()
        ax.hist(before, bins, color=GREY, alpha=0.5, label="standardised")
        ax.hist(after, bins, histtype="step", color=BLUE, label="clamped")
        ax.set(title=f"τ = {tau}", xlabel="weight", yscale="log")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def codebook_tiles() -> plt.Figure:
    """The 32 patterns of an initial 5-bit codebook."""
    patterns = np.asarray(codebook.initial_patterns(5, 0)).reshape(32, 3, 3)
    figure, axes = plt.subplots(4, 8, figsize=(6, 3))
    for ax, pattern in zip(axes.flat, patterns, strict=True):
        ax.imshow(pattern > 0, cmap="Blues", vmin=-0.3, vmax=1.2)
        ax.set(xticks=[], yticks=[])
    return figure


def pipeline() -> plt.Figure:
    """From a method and a network to a device."""
    figure, ax = plt.subplots(figsize=(10, 2.4))
    ax.axis("off")
    ax.set(xlim=(0, 100), ylim=(0, 24))
    boxes = (
        (1, 13, "method\nbireal · recu · subbit · ovsw"),
        (2, 2, "network\nzoo, or your own"),
        (30, 7.5, "train\nbnn-tf train, model.fit"),
        (55, 13, "convert, with proof\n.tflite for LCE"),
        (55, 2, "export\none C99 file"),
        (80, 13, "ARM phone or board"),
        (80, 2, "microcontroller, browser"),
    )
    for x, y, text in boxes:
        ax.text(
            x + 9,
            y + 4,
            text,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "round,pad=0.6", "fc": "white", "ec": BLUE},
        )
    arrows = (
        ((24, 16.5), (29, 13)),
        ((21, 6.5), (29, 10)),
        ((49, 13), (53, 16.5)),
        ((49, 10), (53, 6.5)),
        ((75, 17), (78, 17)),
        ((75, 6), (78, 6)),
    )
    for start, end in arrows:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY})
    return figure


def training_curve(run: Path) -> plt.Figure:
    """Test accuracy after every epoch of a run."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, ax = plt.subplots(figsize=(6, 3))
    ax.plot(range(1, len(rows) + 1), [100 * float(row["val_accuracy"]) for row in rows], color=BLUE)
    ax.set(xlabel="epoch", ylabel="test accuracy (%)")
    ax.grid(alpha=0.3)
    return figure


def main() -> None:
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run directory whose training curve is drawn")
    run = parser.parse_args().run
    pictures = {
        "approx_sign": approx_sign,
        "recu_clamp": recu_clamp,
        "codebook": codebook_tiles,
        "pipeline": pipeline,
    }
    if run is not None:
        pictures["training_curve"] = lambda: training_curve(run)
    plt.rcParams["svg.hashsalt"] = "bnn-tf"  # the same picture gives the same file
    for name, draw in pictures.items():
        figure = draw()
        figure.savefig(
            FOLDER / f"{name}.svg", bbox_inches="tight", transparent=False, metadata={"Date": None}
        )
        plt.close(figure)
        print(f"docs/pictures/{name}.svg")


if __name__ == "__main__":
    main()
