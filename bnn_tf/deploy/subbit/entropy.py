"""The encoder's half of the entropy coder: a range asymmetric numeral system (rANS), one state, static table.

Source: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540. `decode._RansIndices` is the other half.
"""

import numpy as np

from bnn_tf.deploy.subbit.decode import SCALE_BITS, STATE_FLOOR


def quantize_frequencies(counts: np.ndarray) -> np.ndarray:
    """Scales counts (each at least 1, at most 512 of them) to integers of at least 1 that sum to `2**12`."""
    ideal = counts * (2**SCALE_BITS / counts.sum())
    frequencies = np.maximum(1, np.floor(ideal)).astype(np.int64)
    while (excess := frequencies.sum() - 2**SCALE_BITS) != 0:
        step = -1 if excess > 0 else 1
        # Move the one whose code length suffers least, or gains most; never one to 0.
        scores = counts * np.log2(np.maximum(frequencies + step, 1e-99) / frequencies)
        frequencies[scores.argmax()] += step
    return frequencies


def code(symbols: np.ndarray, frequencies: np.ndarray) -> tuple[int, bytes]:
    """Codes symbols with the given frequencies.

    With f the symbol's frequency and c the sum of those before it, a step maps the state x to
    `(x // f) * 2**12 + c + x % f`, after x gave its low 16 bits to the output if that would exceed 32 bits.

    Returns:
        The last state, with which the decoder begins, and the words of 16 bits in the decoder's order.
    """
    starts = (np.cumsum(frequencies) - frequencies).tolist()
    sizes = frequencies.tolist()
    limits = (frequencies << (32 - SCALE_BITS)).tolist()
    state, words = STATE_FLOOR, []
    for symbol in reversed(symbols.tolist()):
        if state >= limits[symbol]:
            words.append(state & 0xFFFF)
            state >>= 16
        size = sizes[symbol]
        state = (state // size << SCALE_BITS) + starts[symbol] + state % size
    return state, np.array(words[::-1], "<u2").tobytes()
