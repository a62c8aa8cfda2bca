"""Learning rates and τ for every epoch, against the authors' runs and by hand."""

import functools

import numpy as np
import pytest

from bnn_tf import schedules
from bnn_tf.errors import UsageError


def curve(schedule, epochs):
    return [schedule(epoch, epochs) for epoch in range(epochs)]


def test_recu_tau(golden):
    arrays = golden("recu_tau")
    for epochs in (600, 200):
        np.testing.assert_allclose(curve(schedules.recu_tau, epochs), arrays[f"tau_{epochs}"], rtol=2e-7)


@pytest.mark.parametrize(
    ("name", "key", "schedule"),
    [
        ("recu_lr", "lr_cos_600_f64", functools.partial(schedules.warmup_cosine, learning_rate=0.1)),
        ("recu_lr", "lr_cos_200_f64", functools.partial(schedules.warmup_cosine, learning_rate=0.1)),
        (
            "recu_lr",
            "lr_twostage_runsh_256_f64",
            functools.partial(schedules.warmup_cosine, learning_rate=1e-3),
        ),
        (
            "recu_lr",
            "lr_linear_256_f64",
            functools.partial(schedules.linear, learning_rate=1e-3, warmup=5, offset=-4),
        ),
        (
            "recu_lr",
            "lr_linear_256_nowarmup_f64",
            functools.partial(schedules.linear, learning_rate=1e-3, offset=0),
        ),
        ("bireal_lr", "lr_256_f64", functools.partial(schedules.linear, learning_rate=1e-3)),
        *(
            (
                "ovsw_lr",
                f"lr_{epochs}_f64",
                functools.partial(schedules.warmup_cosine, learning_rate=0.1, cosine_start=5, floor=1e-5),
            )
            for epochs in (600, 200)
        ),
        (
            "ovsw_lr",
            "lr_200_base0.1_warmup0_f64",
            functools.partial(schedules.warmup_cosine, learning_rate=0.1, warmup=0, floor=1e-5),
        ),
    ],
)
def test_rates_of_the_authors(golden, name, key, schedule):
    expected = golden(name)[key]
    np.testing.assert_allclose(curve(schedule, len(expected)), expected, rtol=1e-9, atol=1e-15)


def test_tau_starts_at_its_minimum_and_would_end_at_its_maximum():
    assert schedules.recu_tau(0, 10) == pytest.approx(0.85)
    assert schedules.recu_tau(10, 10) == pytest.approx(0.99)
    assert schedules.recu_tau(3, 10, 0.2, 0.4) == pytest.approx(0.2 + 0.2 * (np.exp(0.3) - 1) / (np.e - 1))


def test_warmup_cosine_by_hand():
    rates = curve(functools.partial(schedules.warmup_cosine, learning_rate=1.0, warmup=2), 5)
    np.testing.assert_allclose(rates, [0.5, 1.0, 0.5 + 0.5 * np.sqrt(0.5), 0.5, 0.5 - 0.5 * np.sqrt(0.5)])


def test_linear_by_hand():
    assert curve(functools.partial(schedules.linear, learning_rate=1.0), 4) == [0.75, 0.5, 0.25, 0.0]
    assert curve(functools.partial(schedules.linear, learning_rate=1.0, offset=0), 4) == [
        1.0,
        0.75,
        0.5,
        0.25,
    ]
    np.testing.assert_allclose(
        curve(functools.partial(schedules.linear, learning_rate=1.0, warmup=2, offset=0), 5),
        [0.5, 1.0, 0.75, 0.5, 0.25],
    )


def test_multistep_by_hand():
    rates = curve(functools.partial(schedules.multistep, learning_rate=1.0, milestones=(2, 4), warmup=1), 6)
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(("epochs", "at"), [(20, (10, 15)), (40, (20, 30)), (10, (5, 8)), (2, (1,)), (1, ())])
def test_milestones_as_shares(epochs, at):
    """Rounded up where they fall between epochs, as a rate changes at an epoch's start."""
    shares = functools.partial(schedules.multistep, learning_rate=1.0, milestones=(0.5, 0.75))
    whole = functools.partial(schedules.multistep, learning_rate=1.0, milestones=at)
    assert curve(shares, epochs) == curve(whole, epochs)


def test_constant_by_hand():
    assert curve(functools.partial(schedules.constant, learning_rate=2.0, warmup=2), 4) == [1, 2, 2, 2]
    assert curve(functools.partial(schedules.constant, learning_rate=2.0), 2) == [2, 2]


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 5, 6, 10])
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_every_schedule_runs_for_any_number_of_epochs(name, epochs, warmup):
    rates = curve(schedules.get(name, learning_rate=0.1, warmup=warmup), epochs)
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates)


def test_unknown_schedule_names_the_choices():
    with pytest.raises(UsageError, match="cosine"):
        schedules.get("spiral")
