"""The linear-Gaussian HVAE on paper: NumPy alone, matrices from MATHS.md, nothing from hvax.

x = W z + b + N(0, s^2 I), so grad U(z) = A z - c with A = I + W'W / s^2, c = W'(x - b) / s^2, and
a flow is an affine map of the noise u = (noise of z_0, gamma, xi_1 ... xi_K): (z_K, rho_K) =
M u + t. So log w is a quadratic in u, whose moments under N(0, I) are known. Everything here takes
complex numbers, so that an imaginary step of 1e-30 gives derivatives to rounding.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

LOG_TWO_PI = np.log(2 * np.pi)


class Case(NamedTuple):
    """One setting: the model's numbers, the posterior's, and the flow's (K transitions)."""

    W: np.ndarray
    b: np.ndarray
    s: complex
    x: np.ndarray
    mean: np.ndarray  # of q(z_0 | x)
    log_sigma: np.ndarray
    step_size: np.ndarray  # broadcasts to (K, d)
    beta: np.ndarray  # K + 1 numbers
    force: tuple[np.ndarray, np.ndarray] | None = None  # the (A, c) that the flow follows
    bridge: np.ndarray | None = None  # b_1 ... b_K; else 1
    eta: complex | None = None  # else 1, and no xi in u
    leapfrog_steps: int = 1
    mass: np.ndarray | float = 1.0  # broadcasts to (d,)
    position: bool = False  # position Verlet

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


class Affine(NamedTuple):
    """B u + v, for the noise u."""

    B: np.ndarray
    v: np.ndarray

    def after(self, matrix, offset=0.0):
        return Affine(matrix @ self.B, matrix @ self.v + offset)

    def plus(self, other):
        return Affine(self.B + other.B, self.v + other.v)


def flow(case: Case) -> tuple[Affine, Affine, list[tuple[Affine, Affine, complex]]]:
    """z_K and rho_K, and what each refreshment made of the momentum: (before, after, beta)."""
    d, K = case.W.shape[1], len(case.beta) - 1
    A, c = case.force or case.true_force
    precision = np.diag(np.exp(-2 * case.log_sigma))
    pieces = 2 if case.eta is None else 2 + K
    part = [np.eye(d, pieces * d, d * i) for i in range(pieces)]  # of u
    z = Affine(np.diag(np.exp(case.log_sigma)) @ part[0], case.mean)
    # rho here has mass m, so that it starts from N(0, m / beta); hvax has it in unit mass.
    root_m = np.diag(np.sqrt(np.broadcast_to(case.mass, (d,))))
    rho = Affine(root_m @ part[1] / np.sqrt(case.beta[0]), np.zeros(d))
    step_size = np.broadcast_to(case.step_size, (K, d))
    b = np.ones(K) if case.bridge is None else case.bridge
    refreshed = []
    for k in range(K):
        if case.eta is not None:
            before, fresh = rho, root_m @ part[2 + k] / np.sqrt(case.beta[k])
            rho = before.after(case.eta * np.eye(d))
            rho = rho.plus(Affine(np.sqrt(1 - case.eta**2) * fresh, np.zeros(d)))
            refreshed.append((before, rho, case.beta[k]))
        slope = b[k] * A + (1 - b[k]) * precision  # of U_k: slope z - offset
        offset = b[k] * c + (1 - b[k]) * precision @ case.mean
        eps = np.diag(step_size[k])

        def kick(z, rho, share, eps=eps, slope=slope, offset=offset):
            return rho.plus(z.after(-share * eps @ slope, share * eps @ offset))

        def drift(z, rho, share, eps=eps):
            return z.plus(rho.after(share * eps @ np.linalg.inv(root_m @ root_m)))

        for _ in range(case.leapfrog_steps):
            if case.position:
                z = drift(z, rho, 0.5)
                rho = kick(z, rho, 1.0)
                z = drift(z, rho, 0.5)
            else:
                rho = kick(z, rho, 0.5)
                z = drift(z, rho, 1.0)
                rho = kick(z, rho, 0.5)
        rho = rho.after(np.sqrt(case.beta[k] / case.beta[k + 1]) * np.eye(d))
    return z, rho, refreshed


def log_weight(case: Case) -> tuple[complex, np.ndarray, np.ndarray]:
    """log w = a + g'u + u'Hu / 2: the terms of MATHS.md, one by one."""
    d, D = case.W.shape[1], len(case.x)
    z, rho, refreshed = flow(case)
    n = z.B.shape[1]
    noise = Affine(np.eye(d, n), np.zeros(d))
    root_m = np.diag(np.sqrt(np.broadcast_to(case.mass, (d,))))
    rho_0 = Affine(root_m @ np.eye(d, n, d) / np.sqrt(case.beta[0]), np.zeros(d))
    residual = Affine(-case.W @ z.B / case.s, (case.x - case.b - case.W @ z.v) / case.s)

    def normal(at, log_scales):
        """log N(0, I) at the affine point, less the log-scales that standardized it."""
        B, v = at
        constant = -np.sum(log_scales) - len(v) * LOG_TWO_PI / 2
        return constant - v @ v / 2, -B.T @ v, -B.T @ B

    def momentum(at, beta):
        """log N(rho; 0, m / beta)."""
        scale = np.diag(root_m) / np.sqrt(beta)
        return normal(at.after(np.diag(1 / scale)), np.log(scale))

    beta_0, beta_K = case.beta[0], case.beta[-1]
    terms = [
        (1, normal(residual, D * [np.log(case.s)])),
        (1, normal(z, np.zeros(d))),
        (1, momentum(rho, beta_K)),
        (-1, normal(noise, case.log_sigma)),
        (-1, momentum(rho_0, beta_0)),
        (1, (d / 2 * np.log(beta_0 / beta_K), 0, 0)),
    ]
    for before, after, beta in refreshed:
        terms += [(1, momentum(before, beta)), (-1, momentum(after, beta))]
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
    z, _, _ = flow(case)
    start = np.eye(*z.B.shape) * np.exp(case.log_sigma)[:, None]
    B, v = z.B - start, z.v - case.mean
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
