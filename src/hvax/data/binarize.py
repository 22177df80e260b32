"""Binarization of gray levels, once: for validation, test and static training data."""

import numpy as np

from hvax.data.examples import Examples

# The key of all such binarizations. It is not an option, because validation and test bounds of two
# runs are comparable only if both score the same bits.
_KEY = 20181208


def binarize_once(examples: Examples, part: str) -> Examples:
    """Examples of uint8 bits with P(bit = 1) = gray level in [0, 1], the same in every run.

    `part` is train, validation or test; each part has its own random stream.
    """
    generator = np.random.PCG64([_KEY, *part.encode()])
    bits = np.empty((len(examples), *examples.x_shape), np.uint8)
    for start in range(0, len(examples), 1024):
        gray = examples[start : start + 1024]
        # Made from raw 64-bit draws: NumPy guarantees that stream for ever, unlike `random`.
        uniform = (generator.random_raw(gray.size) >> np.uint64(11)) * 2.0**-53
        bits[start : start + 1024] = uniform.reshape(gray.shape) < gray
    return Examples(bits)
