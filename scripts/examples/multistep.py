"""Bi-Real Net's multi-step training in plain Keras: five networks, each starting from the one before.

python scripts/examples/multistep.py [--epochs 8,3,3,8,2] [--output multistep.tflite]
"""

import argparse
from pathlib import Path

import bnn_tf
import zoo
from bnn_tf import data, methods, training

# isort: split
import tensorflow as tf  # after bnn_tf, which selects Keras 2

BATCH_SIZE = 64
# Name, how convolutions are binarized, base learning rate.
STEPS = (
    ("relu", methods.Real("relu"), 0.05),
    ("leaky clip", methods.Real("leaky_clip"), 0.01),
    ("clip", methods.Real("clip"), 0.01),
    ("binarize", methods.BiReal(clip_value=None), 0.01),
    ("BatchNorm alone", methods.BiReal(clip_value=None, scaled=False), 0.01),
)


def train_step(
    model: tf.keras.Model,
    method: methods.Method,
    source: data.Source,
    epochs: int,
    learning_rate: float,
) -> None:
    """Compiles and fits one of the networks."""
    model.compile(
        optimizer=method.optimizer("sgd", learning_rate=learning_rate, momentum=0.9),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    pre = data.Images()
    model.fit(
        data.training_batches(source, pre, BATCH_SIZE, epochs=epochs),
        epochs=epochs,
        steps_per_epoch=data.steps(source, "train", BATCH_SIZE),
        validation_data=data.evaluation_batches(source, pre),
        callbacks=method.callbacks(epochs=epochs),
        verbose=2,
    )


def main() -> None:
    """Trains on the embedded digits and leaves a `.tflite` file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", default="8,3,3,8,2", help="of each step")
    parser.add_argument("--limit", type=int, help="use only so many images")
    parser.add_argument("--output", type=Path, default=Path("multistep.tflite"))
    options = parser.parse_args()
    epochs = [int(number) for number in options.epochs.split(",")]

    source = data.load("digits", limit=options.limit)
    model = None
    for (name, method, learning_rate), count in zip(STEPS, epochs, strict=True):
        print(f"Step: {name}")
        previous, model = model, zoo.CifarResNet20(method=method, num_classes=source.num_classes)
        if previous is not None:  # by layer and shape; anything left over is an error
            training.require_complete(training.transfer(previous, model))
        if name == "BatchNorm alone":
            training.binarize_kernels(model)
            training.train_only_batch_norm(model)
        train_step(model, method, source, count, learning_rate)

    images, _ = data.take(source, data.Images(), 360)
    print(bnn_tf.convert(model, options.output, images=images))


if __name__ == "__main__":
    main()
