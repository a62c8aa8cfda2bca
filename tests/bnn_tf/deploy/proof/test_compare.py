import json

import numpy as np
import pytest

from bnn_tf.deploy import proof


@pytest.fixture
def logits(rng):
    return rng.normal(0, 3, (200, 10))


def test_rounding_agrees(logits, rng):
    report = proof.compare(logits, logits + rng.normal(0, 1e-6, logits.shape))
    assert report.agrees
    assert report.agreement == 1
    assert report.moved_share == 0
    assert 0 < report.median_difference < report.max_difference < 1e-5
    assert report.images == 200


def test_a_few_flipped_signs_agree(logits, rng):
    lite = logits.copy()
    lite[:4] += rng.normal(0, 0.1, (4, 10))
    report = proof.compare(logits, lite)
    assert report.agrees
    assert report.moved_share == 0.02
    assert report.median_difference == 0


def test_a_small_error_in_every_image_disagrees(logits):
    report = proof.compare(logits, logits * 1.005)
    assert not report.agrees
    assert report.agreement == 1
    assert "100% of the images" in report.problem


def test_disagreements_are_excused_as_near_ties_only(logits):
    top, second = np.argsort(logits)[:, -1], np.argsort(logits)[:, -2]
    swapped = logits.copy()
    rows = np.arange(10)
    swapped[rows, top[rows]], swapped[rows, second[rows]] = (
        logits[rows, second[rows]],
        logits[rows, top[rows]],
    )
    assert not proof.compare(logits, swapped).agrees

    tied = logits.copy()
    tied[rows, second[rows]] = tied[rows, top[rows]] - 0.01
    swapped = tied.copy()
    swapped[rows, second[rows]] += 0.02
    report = proof.compare(tied, swapped)
    assert report.agrees
    assert report.disagreements == 10
    assert report.clear_disagreements == 0
    assert report.largest_margin == pytest.approx(0.01)
    assert report.agreement == 0.95


def test_values_that_are_not_finite_disagree(logits):
    lite = logits.copy()
    lite[0, 0] = np.nan
    report = proof.compare(logits, lite)
    assert not report.agrees
    assert "not finite" in report.problem


def test_constant_outputs_are_judged_by_their_size():
    ones = np.ones((8, 1))
    assert proof.compare(ones, ones + 1e-7).agrees
    assert not proof.compare(ones, ones * 1.1).agrees
    assert proof.compare(0 * ones, 0 * ones).agrees


@pytest.mark.parametrize("shapes", [((3, 2), (2, 2)), ((0, 2), (0, 2))])
def test_shapes_must_match(shapes):
    with pytest.raises(ValueError, match="equal, non-empty shapes"):
        proof.compare(*map(np.zeros, shapes))


def test_report_is_readable_and_json(logits):
    report = proof.compare(logits, logits)
    assert json.loads(json.dumps(report.to_dict()))["agrees"] is True
    assert "100.00% of 200 images" in str(report)
