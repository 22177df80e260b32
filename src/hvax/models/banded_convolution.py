"""Convolutions of stride 2 as matrix products of whole image rows, for CPUs.

An image is an array (height, width * channels), one vector per row. The kernel's columns form a
banded matrix between the rows of the small and the large image. A convolution is then a matrix
product with five rows side by side; its adjoint is a matrix product and an overlap-add of rows. The
band of a wide image is mostly zeros, so the columns of the small image are treated in two halves.

Why not `lax` convolutions: inside a loop, XLA's CPU backend runs them on one thread, and their
weight gradients are slow. A training step of the paper's network (K = 5, batch 100, two cores)
takes 0.20 s like this and 1.82 s with `lax`. Undivided rows are slower, finer blocks no faster.
`jax.lax.split` matters: its adjoint is one concatenation, 0.8 of the time of indexing.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

KERNEL, STRIDE = 5, 2


def padding(small: int, large: int) -> tuple[int, int]:
    """The rows of SAME padding before and after the large image."""
    total = (small - 1) * STRIDE + KERNEL - large
    return total // 2, total - total // 2


def gather(
    x: Float[Array, "large row"], weight: Float[Array, "5 5 c_large c_small"], small: int
) -> Float[Array, "small row2"]:
    """The stride-2 convolution of a square image: y[i] = sum_a x[2 i + a - before] weight[a].

    `x` is (large, large * c_large); the result is (small, small * c_small).
    """
    large, channels = len(x), weight.shape[2]
    before, _ = padding(small, large)
    # Padded and split into even and odd rows, so that tap a of output row i is row i + a // 2 of
    # one of the two planes: all taps become slices instead of strided reads.
    height = STRIDE * (small + 2)
    planes = jnp.pad(x, ((before, height - before - large), (0, 0))).reshape(small + 2, STRIDE, -1)
    columns = []
    for block in _blocks(small, large):
        part = planes[:, :, block.first * channels : block.last * channels]
        taps = [part[a // STRIDE :][:small, a % STRIDE] for a in range(KERNEL)]
        columns.append(jnp.concatenate(taps, axis=1) @ _band(weight.swapaxes(2, 3), block).T)
    return jnp.concatenate(columns, axis=1)


def scatter(
    x: Float[Array, "small row"], weight: Float[Array, "5 5 c_small c_large"], large: int
) -> Float[Array, "large row2"]:
    """The adjoint of `gather` with channels exchanged: y[2 i + a - before] += x[i] weight[a].

    `x` is (small, small * c_small); the result is (large, large * c_large).
    """
    small, (c_small, c_large) = len(x), weight.shape[2:]
    before, _ = padding(small, large)
    pieces = []
    for block in _blocks(small, large):
        products = x[:, block.start * c_small : block.stop * c_small] @ _band(weight, block)
        taps = jax.lax.split(products, [products.shape[1] // KERNEL] * KERNEL, axis=1)
        planes = [
            sum(jnp.pad(taps[a], ((a // 2, 2 - a // 2), (0, 0))) for a in range(r, KERNEL, 2))
            for r in range(STRIDE)
        ]
        rows = jnp.stack(planes, axis=1).reshape(STRIDE * (small + 2), -1)[before:][:large]
        outside = block.first * c_large, (large - block.last) * c_large
        pieces.append(jnp.pad(rows, ((0, 0), outside)))
    return sum(pieces[1:], start=pieces[0])


class _Block(NamedTuple):
    """Columns start:stop of the small image, which touch columns first:last of the large one."""

    start: int
    stop: int
    first: int
    last: int
    before: int


def _blocks(small: int, large: int) -> list[_Block]:
    before, _ = padding(small, large)
    edges = [0, (small + 1) // 2, small]
    return [
        _Block(
            start,
            stop,
            max(0, STRIDE * start - before),
            min(large, STRIDE * (stop - 1) + KERNEL - before),
            before,
        )
        for start, stop in itertools.pairwise(edges)
    ]


def _band(
    weight: Float[Array, "5 5 c_small c_large"], block: _Block
) -> Float[Array, "small_columns taps_large_columns"]:
    """The banded matrix weight[a, o - 2 w + before] of small columns w and large columns o."""
    w, b, o = np.ix_(
        np.arange(block.start, block.stop), np.arange(KERNEL), np.arange(block.first, block.last)
    )
    touches = jnp.asarray(o == STRIDE * w + b - block.before, weight.dtype)
    band = jnp.einsum("wbo,abcd->wcaod", touches, weight)
    return band.reshape((block.stop - block.start) * weight.shape[2], -1)
