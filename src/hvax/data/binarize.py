"""Gray levels to bits, once and for all: what validation and test see, and static training data."""

import numpy as np

from hvax.data.examples import Examples

# The key of every binarization that is done once. It is no option: a validation or test bound is
# comparable between runs only where they score the same bits.
_KEY = 20181208


def binarize_once(examples: Examples, part: str) -> Examples:
    """uint8 bits with P(bit = 1) = gray level in [0, 1], the same in every run, for one part."""
    generator = np.random.PCG64([_KEY, *part.encode()])
    bits = np.empty((len(examples), *examples.x_shape), np.uint8)
    for start in range(0, len(examples), 1024):
        gray = examples[start : start + 1024]
        # Raw 64-bit draws, top 53 bits: a stream that NumPy promises to keep.
        uniform = (generator.random_raw(gray.size) >> np.uint64(11)) * 2.0**-53
        bits[start : start + 1024] = uniform.reshape(gray.shape) < gray
    return Examples(bits)
