"""The linear-Gaussian VAE's likelihood and posterior in closed form, in NumPy and float64."""

from typing import NamedTuple

import numpy as np

from hvax.models.vae import VAE


class Exact(NamedTuple):
    log_p: float  # log N(x; b, W W' + s^2 I)
    mean: np.ndarray  # of p(z | x)
    covariance: np.ndarray


def exact(vae: VAE, x: np.ndarray) -> Exact:
    W, b = (
        np.asarray(a, np.float64) for a in (vae.decoder.network.weight, vae.decoder.network.bias)
    )
    s2, residual = float(vae.decoder.likelihood.sigma.value) ** 2, x - b
    of_x = W @ W.T + s2 * np.eye(len(b))
    log_det = np.linalg.slogdet(2 * np.pi * of_x)[1]
    covariance = np.linalg.inv(np.eye(W.shape[1]) + W.T @ W / s2)
    return Exact(
        -0.5 * (residual @ np.linalg.solve(of_x, residual) + log_det),
        covariance @ W.T @ residual / s2,
        covariance,
    )
