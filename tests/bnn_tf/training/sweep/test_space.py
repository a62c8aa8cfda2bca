"""Configurations of grids and random draws."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_tf.errors import UsageError
from bnn_tf.training.sweep import Range, draw, grid, space

AXES = {"rate": Range(1e-4, 1.0, log=True), "epochs": Range(2, 9), "schedule": ["linear", "cosine"]}


def test_a_grid_combines_all_values():
    assert grid({"a": [1, 2], "b": ["x", None]}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
        {"a": 2, "b": None},
    ]
    assert grid({}) == [{}]


def test_draws_depend_on_the_seed_alone():
    assert draw(AXES, 5, seed=3) == draw(AXES, 5, seed=3)
    assert draw(AXES, 5, seed=3) != draw(AXES, 5, seed=4)


def test_draws_come_from_the_axes():
    drawn = draw(AXES, 60, seed=0)
    assert len({tuple(choices.items()) for choices in drawn}) == 60
    assert all(list(choices) == list(AXES) for choices in drawn)
    assert {choices["schedule"] for choices in drawn} == {"linear", "cosine"}
    assert {choices["epochs"] for choices in drawn} == set(range(2, 10))
    rates = sorted(choices["rate"] for choices in drawn)
    assert rates[0] >= 1e-4
    assert rates[-1] <= 1.0
    assert 1e-3 < rates[30] < 1e-1  # drawn uniformly the median would be near 0.5


def test_all_of_a_finite_space_can_be_drawn_but_no_more():
    axes = {"bits": [4, 5, [6]], "epochs": Range(1, 2)}
    assert sorted(map(str, draw(axes, 6, seed=1))) == sorted(
        map(str, grid({"bits": [4, 5, [6]], "epochs": [1, 2]}))
    )
    with pytest.raises(UsageError, match="only 6 different"):
        draw(axes, 7, seed=1)


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (math.nan, 1), (0, math.inf)])
def test_bounds_must_be_ordered_and_finite(bounds):
    with pytest.raises(UsageError, match="from a lower to a higher"):
        Range(*bounds)


def test_a_logarithmic_range_is_positive():
    with pytest.raises(UsageError, match=r"0\.\.1:log: .* positive"):
        Range(0, 1, log=True)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.floats(0, 1))
def test_rounding_stays_within_bounds_and_near(low, width, share):
    axis = Range(low, low + width + abs(low) * 1e-9)
    number = min(axis.low + share * (axis.high - axis.low), axis.high)
    assert axis.low <= axis.rounded(number) <= axis.high
    assert axis.rounded(number) == pytest.approx(number, rel=1e-3)


def test_optuna_stores_lists_as_text():
    assert space.distribution([1, [2, 3], None]).choices == (1, "[2, 3]", None)
