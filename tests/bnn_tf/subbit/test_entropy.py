"""The encoder's half of the entropy coder against the decoder's."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_tf.subbit import decode
from bnn_tf.subbit.encode import code, pack, quantize_frequencies

counts = st.lists(st.integers(1, 10**6), min_size=1, max_size=512).map(np.array)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(counts)
def test_frequencies_sum_up_and_never_vanish(counts):
    frequencies = quantize_frequencies(counts)
    assert frequencies.sum() == 2**decode.SCALE_BITS
    assert frequencies.min() >= 1
    assert (np.diff(frequencies[np.argsort(counts, kind="stable")]) >= -1).all()


def decoded(symbols, frequencies, sizes):
    state, words = code(symbols, frequencies)
    data = pack(frequencies - 1, decode.SCALE_BITS) + struct.pack("<I", state) + words
    payload = decode._Payload(io.BytesIO(data), len(data), zlib.crc32(b""))
    indices = decode._RansIndices(payload, len(frequencies), len(symbols))
    blocks = [indices.take(size) for size in sizes]
    return np.concatenate(blocks)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(counts, st.integers(0, 2**32 - 1))
def test_what_is_coded_comes_back(counts, seed):
    rng = np.random.default_rng(seed)
    symbols = rng.choice(len(counts), 300, p=counts / counts.sum())
    got = decoded(symbols, quantize_frequencies(counts), (100, 1, 199))
    np.testing.assert_array_equal(got, symbols)


def test_a_single_symbol_takes_no_words():
    state, words = code(np.zeros(1000, int), np.array([4096]))
    assert (state, words) == (decode.STATE_FLOOR, b"")


@pytest.mark.parametrize("width", [1, 5, 9, 12, 16])
def test_pack_and_unpack(rng, width):
    values = rng.integers(0, 2**width, 77)
    data = pack(values, width)
    assert len(data) == decode.packed_size(width, 77)
    np.testing.assert_array_equal(decode.unpack(data, width, 77), values)


def test_numbers_stand_lowest_bit_first():
    assert pack(np.array([0b00101, 0b10001]), 5) == bytes([0b00100101, 0b10])
