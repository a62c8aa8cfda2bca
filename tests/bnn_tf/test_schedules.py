"""Learning rates and τ for every epoch, against the authors' runs and by hand."""

import functools
import json

import numpy as np
import pytest

from bnn_tf import schedules
from bnn_tf.errors import UsageError
from bnn_tf.schedules import Constant, Cosine, Linear, MultiStep


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


@pytest.mark.parametrize(
    ("schedule", "function", "options"),
    [
        (Cosine(warmup=5), schedules.warmup_cosine, {"warmup": 5}),
        (Cosine(5, 1, 1e-5), schedules.warmup_cosine, {"warmup": 5, "cosine_start": 5, "floor": 1e-5}),
        (Linear(), schedules.linear, {}),
        (Linear(warmup=2, offset=0), schedules.linear, {"warmup": 2, "offset": 0}),
        (MultiStep(milestones=(0.5, 0.75)), schedules.multistep, {"milestones": (0.5, 0.75)}),
        (
            MultiStep(1, (10, 15), 0.5),
            schedules.multistep,
            {"warmup": 1, "milestones": (10, 15), "factor": 0.5},
        ),
        (Constant(warmup=3), schedules.constant, {"warmup": 3}),
    ],
)
def test_values_are_the_functions(schedule, function, options):
    for epoch in range(20):
        assert schedule(epoch, 20, 0.3) == function(epoch, 20, 0.3, **options)
    assert schedules.get(json.loads(json.dumps(schedule.get_config()))) == schedule


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 5, 6, 10])
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_every_schedule_rises_and_falls_once(name, epochs, warmup):
    offset = {"offset": 0} if name == "linear" else {}
    rates = curve(schedules.get(name, warmup=warmup, **offset), epochs)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_the_cosine_follows_the_warm_up(warmup):
    """OvSW's recipe with another warm-up: the rates never rise again after it."""
    rates = curve(Cosine(warmup=warmup, delay=1, floor=1e-5), 8)
    after = rates[max(warmup - 1, 0) + 1 :]
    assert after == sorted(after, reverse=True)
    assert after[0] == pytest.approx(1 + 1e-5 if warmup else (1 + np.cos(np.pi / 8)) / 2 + 1e-5)


def test_a_trillion_epochs_cost_nothing():
    assert Cosine()(10**12 - 1, 10**12) == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"warmup": -1}, "schedule cosine: warmup must be a whole number at least 0, not -1"),
        ("cosine", {"warmup": 2.5}, "warmup"),
        ("cosine", {"floor": float("inf")}, "floor must be a number at least 0, not inf"),
        ("cosine", {"delay": -1}, "delay"),
        ("linear", {"offset": 2}, "offset must be 0 or 1, not 2"),
        ("multistep", {"milestones": (0.75, 0.5)}, r"milestones must rise, not \[0.75, 0.5\]"),
        ("multistep", {"milestones": (0.5, 30)}, "milestones must be whole epochs, or all below 1"),
        ("multistep", {"milestones": (0, 3)}, "milestones must be a list, each entry a number above 0"),
        ("multistep", {"milestones": (3, 6), "warmup": 5}, "milestones must come after the warm-up of 5"),
        ("multistep", {"factor": 2}, "factor must be a number above 0 and at most 1, not 2"),
        ("spiral", {}, "no schedule called 'spiral' .*cosine"),
        ("cosine", {"warm_up": 1}, "did you mean 'warmup'"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        schedules.get(name, **options)


@pytest.mark.parametrize(
    ("schedule", "epochs", "message"),
    [
        (Cosine(warmup=5, delay=10), 12, "warmup=5 and delay=10 leave none of 12 epochs for the cosine"),
        (Linear(), 1, "set offset=0"),
        (MultiStep(milestones=(30, 60)), 50, r"milestones \[30.0, 60.0\] lie beyond the end of 50 epochs"),
        (Constant(), 0, "at least one epoch"),
    ],
)
def test_epochs_that_do_not_fit_are_refused(schedule, epochs, message):
    with pytest.raises(UsageError, match=message):
        schedule.check(epochs)
    with pytest.raises(UsageError, match=message):
        schedule(0, epochs)


def test_a_floor_that_makes_rates_rise_again_is_refused():
    with pytest.raises(UsageError, match="floor=0.5 is added to the rates, and over a tenth of the full 0.1"):
        Cosine(warmup=1, floor=0.5)(0, 6, learning_rate=0.1)


@pytest.mark.parametrize("start", [5, 7])
def test_a_cosine_after_the_last_epoch_is_refused(start):
    with pytest.raises(UsageError, match=f"cosine_start={start} leaves none of 5 epochs"):
        schedules.warmup_cosine(0, 5, 0.1, warmup=0, cosine_start=start)
