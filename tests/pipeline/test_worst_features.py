"""Which features a warning names as reconstructed worst."""

import jax
import numpy as np

import hvax
from hvax.pipeline.references import _worst_features


def test_constant_pixels_are_not_compared_with_their_variance():
    """Seen to fail with errors of 1e289 variances in the pixels that are always 0."""
    x = np.random.default_rng(0).integers(0, 2, (100, 4, 4)).astype(np.uint8)
    x[:, 0] = 0
    parts = hvax.load_parts(x)
    vae = hvax.VAE(*hvax.mlp((4, 4), 2, hidden=(3,), key=jax.random.key(0)))
    words = _worst_features(vae, parts)
    assert words.count("(") == 3 and "e+" not in words
    assert not any(f" {pixel} (" in words for pixel in range(4))
