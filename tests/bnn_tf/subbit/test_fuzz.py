"""A spoiled file gives a clear error or the very model, never another one."""

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from bnn_tf.subbit import SubBitFileError, expand

EXAMPLES, FILES_EACH = 1000, 10


def outcome(data):
    try:
        return expand(data)
    except SubBitFileError:
        return None


@pytest.mark.slow
@seed(0)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_mutated(sample, tools, data):
    model, good = sample
    changes = st.tuples(st.sampled_from(tools.kinds), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    for _ in range(FILES_EACH):
        spoiled = good
        for change in data.draw(st.lists(changes, min_size=1, max_size=3)):
            spoiled = tools.spoil(spoiled, *change)
        if data.draw(st.booleans()):
            spoiled = tools.repair(spoiled)
        assert outcome(spoiled) in (None, model)
