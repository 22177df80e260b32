"""The linear-Gaussian HVAE on paper: NumPy alone, matrices from MATHS.md, nothing from hvax.

x = W z + b + N(0, s^2 I), so grad U(z) = A z - c with A = I + W'W / s^2, c = W'(x - b) / s^2, and
a flow is an affine map of the noise u = (noise of z_0, gamma): (z_K, rho_K) = M u + t. So log w is
a quadratic in u, whose moments under N(0, I) are known. Everything here takes complex numbers, so
that an imaginary step of 1e-30 gives derivatives to rounding.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

LOG_TWO_PI = np.log(2 * np.pi)


class Case(NamedTuple):
    """One setting: the model's numbers, the posterior's, and the flow's (K steps)."""

    W: np.ndarray
    b: np.ndarray
    s: complex
    x: np.ndarray
    mean: np.ndarray  # of q(z_0 | x)
    log_sigma: np.ndarray
    step_size: np.ndarray  # broadcasts to (K, d)
    beta: np.ndarray  # K + 1 numbers
    force: tuple[np.ndarray, np.ndarray] | None = None  # the (A, c) that the flow follows

    @property
    def true_force(self) -> tuple[np.ndarray, np.ndarray]:
        W, s2 = self.W, self.s**2
        return np.eye(W.shape[1]) + W.T @ W / s2, W.T @ (self.x - self.b) / s2


def schedule(name: str, beta0: complex, K: int, alpha: np.ndarray | None = None) -> np.ndarray:
    """The table of MATHS.md; `custom` is models_for_tests.above_one."""
    if name == "free":
        return np.array([np.prod(alpha[k:] ** 2) for k in range(K + 1)])
    if K == 0:
        return np.array([beta0])
    t = np.arange(K + 1) / K
    return {
        "quadratic": lambda: ((1 - 1 / np.sqrt(beta0)) * t**2 + 1 / np.sqrt(beta0)) ** -2,
        "null": lambda: beta0 + 0 * t,
        "temperature": lambda: 1 / ((1 - 1 / beta0) * t**2 + 1 / beta0),
        "custom": lambda: 1.3 * beta0 ** (1 - t),
    }[name]()


def flow(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(M, t), with the leapfrog's own three shears and the tempering as 2d x 2d matrices."""
    d, K = case.W.shape[1], len(case.beta) - 1
    A, c = case.force or case.true_force
    I, O = np.eye(d), np.zeros((d, d))
    M = np.block([[np.diag(np.exp(case.log_sigma)), O], [O, I / np.sqrt(case.beta[0])]])
    t = np.concatenate([case.mean, np.zeros(d)])
    step_size = np.broadcast_to(case.step_size, (K, d))
    for k in range(1, K + 1):
        eps = np.diag(step_size[k - 1])
        kick = np.block([[I, O], [-eps @ A / 2, I]])
        push = np.concatenate([np.zeros(d), eps @ c / 2])
        drift = np.block([[I, eps], [O, I]])
        temper = np.block([[I, O], [O, np.sqrt(case.beta[k - 1] / case.beta[k]) * I]])
        for matrix, offset in [(kick, push), (drift, 0), (kick, push), (temper, 0)]:
            M, t = matrix @ M, matrix @ t + offset
    return M, t


def log_weight(case: Case) -> tuple[complex, np.ndarray, np.ndarray]:
    """log w = a + g'u + u'Hu / 2: the six terms of MATHS.md, one by one."""
    d, D = case.W.shape[1], len(case.x)
    M, t = flow(case)
    I, O = np.eye(d), np.zeros((d, d))
    z, rho = (M[:d], t[:d]), (M[d:], t[d:])
    noise = (np.hstack([I, O]), np.zeros(d))
    rho_0 = (np.hstack([O, I]) / np.sqrt(case.beta[0]), np.zeros(d))
    residual = (-case.W @ z[0] / case.s, (case.x - case.b - case.W @ z[1]) / case.s)

    def normal(at, log_scales, weight=1.0):
        """A Gaussian's log-density at the affine point (B, v): -weight |B u + v|^2 / 2 - ..."""
        B, v = at
        constant = -np.sum(log_scales) - len(v) * LOG_TWO_PI / 2
        return constant - weight * v @ v / 2, -weight * B.T @ v, -weight * B.T @ B

    beta_0, beta_K = case.beta[0], case.beta[-1]
    terms = [
        (1, normal(residual, D * [np.log(case.s)])),
        (1, normal(z, np.zeros(d))),
        (1, normal(rho, d * [-np.log(beta_K) / 2], beta_K)),
        (-1, normal(noise, case.log_sigma)),
        (-1, normal(rho_0, d * [-np.log(beta_0) / 2], beta_0)),
        (1, (d / 2 * np.log(beta_0 / beta_K), 0, 0)),
    ]
    return tuple(sum(sign * part[i] for sign, part in terms) for i in range(3))


def elbo(case: Case) -> complex:
    """E[log w]."""
    a, _, H = log_weight(case)
    return a + np.trace(H) / 2


def log_moment(polynomial: tuple, power: float = 1.0) -> float:
    """log E[w^power] under u ~ N(0, I); inf where the integral does not converge."""
    a, g, H = polynomial
    precision = np.eye(len(g)) - power * H
    if np.min(np.linalg.eigvalsh(precision)) <= 0:
        return np.inf
    quadratic = power**2 * g @ np.linalg.solve(precision, g)
    return power * a + quadratic / 2 - np.linalg.slogdet(precision)[1] / 2


def efficiency(case: Case) -> float:
    """The effective sample size of the weights, per draw: E[w]^2 / E[w^2]."""
    polynomial = log_weight(case)
    return np.exp(2 * log_moment(polynomial) - log_moment(polynomial, 2.0))


def movement(case: Case) -> float:
    """rms |z_K - z_0| in units of the posterior's standard deviation, rms over dimensions."""
    d = case.W.shape[1]
    M, t = flow(case)
    B, v = M[:d] - np.hstack([np.diag(np.exp(case.log_sigma)), np.zeros((d, d))]), t[:d] - case.mean
    posterior = np.linalg.inv(case.true_force[0])
    return np.sqrt((np.sum(B**2) + v @ v) / np.trace(posterior))


def derivatives(
    f: Callable[[Mapping[str, np.ndarray]], complex], numbers: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Every partial derivative of a real-analytic f, by complex steps."""
    found = {}
    for name, value in numbers.items():
        found[name] = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            found[name][index] = f({**numbers, name: moved}).imag / 1e-30
    return found
