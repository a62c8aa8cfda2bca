import numpy as np
import pytest

from bnn_tf.export.c_text import Lines, c_type, comment, float_literal, string_literal, wrapped


def test_floats_are_the_same_when_they_are_read_again(rng):
    values = rng.normal(size=200).astype(np.float32) * 10.0 ** rng.integers(-30, 30, 200)
    for value in values.astype(np.float32):
        text = float_literal(value)
        assert text[-1] == "f"
        assert np.float32(text[:-1]) == value
    assert [float_literal(value) for value in (2.0, 1e10, np.inf, -np.inf, np.nan)] == [
        *("2.0f", "1e+10f", "INFINITY", "-INFINITY", "NAN")
    ]


@pytest.mark.parametrize(
    ("text", "literal"),
    [("cat", '"cat"'), ('a"b\\', '"a\\042b\\134"'), ("??/", '"\\077\\077/"'), ("ä\n", '"\\303\\244\\012"')],
)
def test_strings(text, literal):
    assert string_literal(text) == literal


def test_a_comment_cannot_be_left():
    assert comment("a */ int x; /* b\nc") == "a * / int x; / * b c"


def test_long_initializers_are_broken_into_lines():
    lines = wrapped([f"{number}.0f" for number in range(100)]).split("\n")
    assert max(map(len, lines)) <= 110
    assert [part.strip() for part in ",".join(line.rstrip(",") for line in lines).split(",")] == [
        f"{number}.0f" for number in range(100)
    ]


def test_blocks_are_indented():
    lines = Lines()
    with lines.block("for (;;)"):
        lines.add("break;")
    assert str(lines) == "    for (;;) {\n        break;\n    }"
    assert (c_type(np.zeros(2, np.int8)), c_type(np.zeros(2, np.float32))) == ("int8_t", "float")
