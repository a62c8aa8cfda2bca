"""A binary network in plain Keras: build, compile, fit, save, reload, convert.

python scripts/examples/digits.py [--method bireal] [--epochs 15] [--output digits.tflite]
"""

import argparse
from pathlib import Path

import bnn_tf
import zoo
from bnn_tf import data

# isort: split
import tensorflow as tf  # after bnn_tf, which selects Keras 2


def main() -> None:
    """Trains on the embedded digits and leaves a `.keras` and a `.tflite` file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", default="bireal")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, help="use only so many images")
    parser.add_argument("--output", type=Path, default=Path("digits.tflite"))
    options = parser.parse_args()

    source = data.load("digits", limit=options.limit)
    pre = data.Images()
    train = data.training_batches(source, pre, batch_size=64, epochs=options.epochs)
    test = data.evaluation_batches(source, pre)

    method = bnn_tf.methods.get(options.method)
    model = zoo.CifarResNet20(method=method, num_classes=source.num_classes)
    model.compile(
        optimizer=method.optimizer("adam", learning_rate=3e-3),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        train,
        epochs=options.epochs,
        steps_per_epoch=data.steps(source, "train", 64),
        validation_data=test,
        callbacks=method.callbacks(epochs=options.epochs),
        verbose=2,
    )

    saved = options.output.with_suffix(".keras")
    model.save(saved)
    model = bnn_tf.load_model(saved)
    images, _ = data.take(source, pre, 360)
    print(bnn_tf.convert(model, options.output, images=images))


if __name__ == "__main__":
    main()
