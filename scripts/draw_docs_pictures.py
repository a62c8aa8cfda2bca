#!/usr/bin/env python
"""Draws the pictures of the documentation with the library's own formulas, as SVG files into docs/pictures.

    python scripts/draw_docs_pictures.py [--run RUN] [--only NAME]

With `--run`, the training curve of that run directory is drawn as well (`training_curve.svg`).
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bnn_tf  # noqa: F401  (before TensorFlow: it selects Keras 2)
from bnn_tf import codebook, math
from bnn_tf._tensorflow import tf
from bnn_tf.training.start import load_zoo
from bnn_tf.transforms import adaptive_gradient_scale

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


def recu_gradient() -> plt.Figure:
    """The sign of a standardised weight, and the gradient that the clamp lets through, at two τ."""
    kernel = tf.constant(np.random.default_rng(0).laplace(size=(3, 3, 64, 64)), tf.float32)
    standardized = math.recu_standardize(kernel)
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
    for ax, tau in zip(axes, (0.85, 0.99), strict=True):
        bound = float(math.recu_bound(standardized, tau))

        def through(weight: tf.Tensor, bound: float = bound) -> tf.Tensor:
            return math.identity_sign(tf.clip_by_value(weight, -bound, bound))

        forward_and_gradient(ax, through, np.linspace(-14, 14, 1121))
        ax.set(title=f"τ = {tau}: Q(τ) = {bound:.1f}", xlabel="standardised weight")
    axes[0].legend(frameon=False)
    return figure


def subbit_gradient() -> plt.Figure:
    """A weight of a slice: to ±1 by its pattern, with the gradient cut off beyond ±1."""
    figure, ax = plt.subplots(figsize=(5, 3))
    forward_and_gradient(ax, lambda x: math.clipped_sign(x, 1.0), np.linspace(-1.8, 1.8, 721))
    ax.set(xlabel="latent weight (s_o = 1, its pattern agrees with its sign)")
    ax.legend(frameon=False)
    return figure


def ovsw_gradient() -> plt.Figure:
    """The sign with its identity gradient, and how much AGS scales a channel's gradient up."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    forward_and_gradient(left, math.identity_sign, np.linspace(-1.8, 1.8, 721))
    left.set(xlabel="latent weight")
    left.legend(frameon=False)
    ratios = np.logspace(-4, 0, 200)
    kernel = tf.ones((1, 1, 4, len(ratios)))
    gradient = kernel * tf.constant(ratios, tf.float32)
    for delta, color in ((0.04, BLUE), (0.01, ORANGE)):
        scaled = adaptive_gradient_scale(gradient, kernel, delta)
        right.loglog(ratios, (scaled / gradient).numpy()[0, 0, 0], color=color, label=f"δ = {delta}")
    right.set(xlabel="norm of gradient / norm of kernel", ylabel="AGS scales by")
    right.legend(frameon=False)
    return figure


def codebook_tiles() -> plt.Figure:
    """The codebook of one layer of the shipped sub-bit weights, the most used pattern first."""
    layer = load_zoo("zoo:cifar_resnet20-subbit").get_layer("stage3_block3b_conv")
    patterns = layer.kernel_quantizer.patterns()
    uses = np.bincount(codebook.indices(layer.kernel, patterns).numpy().ravel(), minlength=len(patterns))
    figure, axes = plt.subplots(4, 8, figsize=(6, 3.7))
    for ax, row in zip(axes.flat, np.argsort(-uses, kind="stable"), strict=True):
        ax.imshow(patterns[row].numpy().reshape(3, 3) > 0, cmap="Blues", vmin=-0.3, vmax=1.2)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{100 * uses[row] / uses.sum():.1f} %", fontsize=8, labelpad=2)
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
    drawn = [
        ax.text(
            x + 9,
            y + 4,
            text,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "round,pad=0.6", "fc": "white", "ec": BLUE},
        )
        for x, y, text in boxes
    ]
    figure.canvas.draw()  # now the boxes know their places
    for start, end in ((0, 2), (1, 2), (2, 3), (2, 4), (3, 5), (4, 6)):
        style = {"arrowstyle": "->", "color": GREY, "shrinkA": 4, "shrinkB": 4}
        style |= {"patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()}
        ax.annotate("", drawn[end].get_position(), drawn[start].get_position(), arrowprops=style)
    return figure


def training_curve(run: Path) -> plt.Figure:
    """Accuracy on the training and the test images after every epoch of a run."""
    recipe = json.loads((run / "config.json").read_text())["recipe"]
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, ax = plt.subplots(figsize=(6.5, 3))
    for column, color, label in (
        ("accuracy", GREY, "training images"),
        ("val_accuracy", BLUE, "test images"),
    ):
        shares = [100 * float(row[column]) for row in rows]
        ax.plot(range(1, len(rows) + 1), shares, color=color, marker="o", ms=3, label=label)
    ax.annotate(
        f"{shares[-1]:.1f} %", (len(rows), shares[-1]), (0, -14), textcoords="offset points", ha="right"
    )
    title = f"{recipe['method']['name']} × {recipe['model']} on {recipe['dataset']}, {len(rows)} epochs"
    ax.set(title=title, xlabel="epoch", ylabel="accuracy (%)", xlim=(0.5, len(rows) + 0.7))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run directory whose training curve is drawn")
    parser.add_argument("--only", metavar="NAME", help="draw this picture only")
    options = parser.parse_args()
    run = options.run
    pictures = {
        "approx_sign": approx_sign,
        "recu_clamp": recu_clamp,
        "recu_gradient": recu_gradient,
        "subbit_gradient": subbit_gradient,
        "ovsw_gradient": ovsw_gradient,
        "codebook": codebook_tiles,
        "pipeline": pipeline,
    }
    if run is not None:
        pictures["training_curve"] = lambda: training_curve(run)
    plt.rcParams["svg.hashsalt"] = "bnn-tf"  # the same picture gives the same file
    for name, draw in pictures.items():
        if options.only not in (None, name):
            continue
        figure = draw()
        figure.savefig(
            FOLDER / f"{name}.svg", bbox_inches="tight", transparent=False, metadata={"Date": None}
        )
        plt.close(figure)
        print(f"docs/pictures/{name}.svg")


if __name__ == "__main__":
    main()
