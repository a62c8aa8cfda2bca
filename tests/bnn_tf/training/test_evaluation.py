"""Accuracy and loss of logits."""

import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.training import evaluate
from bnn_tf.training.evaluation import as_logits, score


def test_equals_keras(rng):
    logits = rng.normal(size=(200, 10)).astype("f") * 3
    labels = rng.integers(0, 10, 200)
    result = score(logits, labels)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    top5 = tf.keras.metrics.sparse_top_k_categorical_accuracy(labels, logits, 5)
    assert result.images == 200
    assert result.top1 == np.mean(logits.argmax(1) == labels)
    assert result.top5 == pytest.approx(np.mean(top5))
    assert result.loss == pytest.approx(float(loss), rel=1e-5)


def test_large_logits_do_not_overflow():
    result = score(np.array([[1e4, 0.0], [0.0, 1e4]], "f"), np.array([0, 0]))
    assert (result.top1, result.loss) == (0.5, 5000.0)


def test_equal_logits_are_not_all_correct():
    """A dead network, which says the same of everything, knows one class in ten."""
    result = score(np.zeros((10, 10), "f"), np.arange(10))
    assert (result.top1, result.top5) == (0.1, 0.5)


def test_nan_is_never_correct():
    logits = np.zeros((3, 10), "f")
    logits[0] = np.nan
    logits[1, 4] = np.nan  # a NaN elsewhere outranks the label as well
    with np.errstate(invalid="ignore"):
        result = score(logits, np.array([0, 0, 0]))
    assert result.top1 == pytest.approx(1 / 3)
    assert result.top5 == pytest.approx(2 / 3)


def test_few_classes_have_no_top5():
    assert score(np.eye(5, dtype="f"), np.arange(5)).top5 is None
    assert score(np.eye(6, dtype="f"), np.arange(6)).top5 == 1.0


def test_all_images_in_order_and_partial_batches(rng):
    source = data.load("digits", limit=50)
    images, labels = data.take(source, data.Images(), 50)
    table = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    sizes = []

    def oracle(batch):
        sizes.append(len(batch))
        return np.eye(10, dtype="f")[[table[image.tobytes()] for image in batch]]

    result = evaluate(oracle, source, data.Images(), batch_size=32)
    assert (result.images, result.top1, result.top5) == (50, 1.0, 1.0)
    assert sizes == [32, 18]


def test_more_classes_than_logits():
    with pytest.raises(UserError, match="digits has 10 classes, the model knows 4"):
        evaluate(lambda x: np.zeros((len(x), 4)), data.load("digits", limit=4), data.Images())


def test_prints_and_lists():
    result = score(np.eye(6, dtype="f") * 100, np.arange(6))
    assert str(result) == "top-1 100.00%  top-5 100.00%  loss 0.0000  (6 images)"
    assert result.to_dict() == {"images": 6, "top1": 1.0, "top5": 1.0, "loss": 0.0}
    assert "top-5" not in str(score(np.eye(3, dtype="f"), np.arange(3)))


@pytest.mark.parametrize(
    "values", [[0.1, 0.8, 0.4, 0.5001], [-3.0, 2.0, -0.1, 0.1]], ids=["probabilities", "logits"]
)
def test_one_output_tells_as_logits_apart(values):
    values, labels = np.float32(values)[:, None], np.array([0, 1, 1, 1])
    logits = bool((values < 0).any())
    result = score(as_logits(values), labels)
    assert result.top1 == 0.75
    loss = tf.keras.losses.BinaryCrossentropy(from_logits=logits)(labels[:, None], values)
    assert result.loss == pytest.approx(float(loss), rel=1e-5)


def test_probabilities_are_told_from_logits():
    logits, labels = np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 4
    probabilities = tf.nn.softmax(logits).numpy()
    rounded = np.round(probabilities * 256) / 256  # as an int8 file gives them
    assert score(as_logits(probabilities), labels).loss == pytest.approx(score(logits, labels).loss)
    assert score(as_logits(rounded), labels).loss == pytest.approx(score(logits, labels).loss, abs=0.05)
    assert as_logits(logits) is logits
    assert np.isnan(as_logits(np.full((2, 3), np.nan))).all()


def test_a_network_with_one_sigmoid_unit():
    images, labels = np.zeros((6, 4, 4, 3), np.uint8), np.array([0, 1, 1, 0, 1, 1])
    images[labels == 1] = 255
    split = data.ArraySplit(images, labels)
    source = data.Source(["no", "yes"], split, split)
    result = evaluate(lambda x: (x.mean(axis=(1, 2, 3)) > 0)[:, None].astype("f"), source, data.Images())
    assert (result.images, result.top1) == (6, 1.0)
