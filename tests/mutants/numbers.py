"""Faults in the numbers: flows, models and objectives."""

from tests.mutants.mutant import Mutant

COUNTS = [
    Mutant(
        "models/origin.py",
        "return x if origin is None else x - origin",
        "return x if origin is None else x - origin.astype(np.float32)",
        "training/test_offset.py",
    ),
    Mutant(
        "models/origin.py",
        "x.astype(np.float64) + origin",
        "x + origin.astype(x.dtype)",
        "training/test_offset.py",
    ),
    Mutant(
        "models/counts.py",
        "    return jnp.where(jnp.abs(d) < 1, near, far)",
        "    return far",
        "models/test_counts.py",
    ),
    Mutant(
        "models/counts.py",
        "square * (1 / 1260 - square * (1 / 1680 - square / 1188))",
        "square * (1 / 1260)",
        "models/test_counts.py",
    ),
    Mutant(
        "models/counts.py",
        "direct = log_factorial - off - few",
        "direct = log_factorial - few",
        "models/test_counts.py",
    ),
    Mutant(
        "models/counts.py",
        "        small = jnp.abs(v) < 0.2\n",
        "        small = jnp.abs(v) < 0.0\n",
        "models/test_counts.py",
    ),
]
HAMILTONIAN = [
    Mutant(
        "hamiltonian/leapfrog.py",
        "    rho = rho - 0.5 * step_size * met.gradient\n",
        "    rho = rho - 0.5 * step_size * state.gradient\n",
        "hamiltonian/test_leapfrog.py",
    ),
    Mutant(
        "hamiltonian/momentum.py",
        "        return fresh, 0.5 * beta * (fresh @ fresh - rho @ rho)",
        "        return fresh, 0.5 * (fresh @ fresh - rho @ rho)",
        "laws/test_closed_form.py::test_every_member_of_the_family",
    ),
    Mutant(
        "hamiltonian/momentum.py",
        "        return -(0.5 * beta * (rho @ rho))",
        "        return -(0.5 * (rho @ rho))",
        "hamiltonian/test_flow.py::test_log_ratio_is_that_of_the_momenta",
    ),
    Mutant(
        "hamiltonian/transport.py",
        "jnp.sqrt(beta[:-1] / beta[1:])",
        "jnp.sqrt(beta[1:] / beta[:-1])",
        "hamiltonian/test_flow.py::test_the_flow_is_leapfrog_steps_and_scalings",
    ),
    Mutant(
        "hamiltonian/momentum.py",
        "        gamma_key, xi_key = jax.random.split(key)",
        "        gamma_key = xi_key = key",
        "hamiltonian/test_family.py::test_at_one_it_is_the_hamiltonian_vae_s_flow "
        "hamiltonian/test_family.py::test_stages_end_where_the_flow_ends",
    ),
    Mutant(
        "hamiltonian/tempering.py",
        "jnp.cumprod(alpha[::-1] ** 2)[::-1]",
        "jnp.cumprod(alpha**2)",
        "hamiltonian/test_tempering.py::test_free_is_the_product_of_squared_scalings",
    ),
    Mutant(
        "hamiltonian/bridge.py",
        "    gradient = b * target.gradient + (1 - b) * start.gradient",
        "    gradient = b * target.gradient + start.gradient",
        "hamiltonian/test_family.py::test_position_verlet_is_velocity_verlet_seen_from_midway "
        "laws/test_closed_form.py::test_every_member_of_the_family",
    ),
    Mutant(
        "hamiltonian/integrator.py",
        "        since = 0.5 * step_size * rho\n",
        "        since = 0.5 * step_size * state.rho\n",
        "hamiltonian/test_family.py::test_position_verlet_is_velocity_verlet_seen_from_midway",
    ),
    Mutant(
        "hamiltonian/step_size.py",
        "    return sigma.astype(z.dtype)",
        "    return jnp.ones_like(z)",
        "hamiltonian/test_family.py::test_units_of_the_posterior_are_its_sigma",
    ),
    Mutant(
        "hamiltonian/gradient.py",
        'h = (eps ** (1 / 3) if self.scheme == "central" else eps**0.5)',
        "h = (eps**0.5)",
        "hamiltonian/test_gradient.py",
    ),
]

OBJECTIVES = [
    Mutant(
        "objectives.py",
        "jax.nn.logsumexp(bound, axis=0) - jnp.log(len(log_w))",
        "jax.nn.logsumexp(bound, axis=0)",
        "test_objectives.py::test_importance_weighted_bound_is_its_formula",
    ),
    Mutant(
        "objectives.py",
        "    return jnp.where(jnp.isfinite(log_w), log_w, -jnp.inf)",
        "    return jnp.where(jnp.isnan(log_w), -jnp.inf, log_w)",
        "test_objectives.py::test_finite_or_zero_weight",
    ),
    Mutant(
        "objectives.py",
        "(draw.log_posterior + q.entropy())",
        "(draw.log_posterior - q.entropy())",
        "test_objectives.py::test_the_analytic_kl_keeps_the_expectation",
    ),
    Mutant(
        "objectives.py",
        "    return draws.log_likelihood + kl_weight * (log_w - draws.log_likelihood)",
        "    return kl_weight * log_w",
        "test_objectives.py::test_the_kl_weight",
    ),
]

VAES = [
    Mutant(
        "models/hvae.py",
        "joint.log_likelihood + joint.log_prior - log_posterior + end.log_ratio",
        "joint.log_likelihood + joint.log_prior - log_posterior",
        "laws/test_closed_form.py::test_the_models_own_draw_is_this_one",
    ),
    Mutant(
        "models/hvae.py",
        "        z_key, flow_key = jax.random.split(key)",
        "        z_key, flow_key = key, jax.random.clone(key)",
        "models/test_hvae.py::test_the_ways_to_call_share_their_draw "
        "laws/test_unbiasedness.py::test_unbiased",
    ),
    Mutant(
        "models/gaussian.py",
        "jnp.expm1(2 * self.log_sigma)) - self.log_sigma",
        "jnp.exp(2 * self.log_sigma) - 1) - self.log_sigma",
        "models/test_gaussian.py::test_kl_keeps_its_digits_near_zero",
    ),
    Mutant(
        "models/hamiltonian_terms.py",
        "    constants = (a[2] - b[2]) * log_beta_K + (b[2] - b[1]) * log_beta_0",
        "    constants = (a[2] - b[2]) * log_beta_K + (b[1] - b[2]) * log_beta_0",
        "test_objectives.py::test_the_loss_weighs_the_six_terms",
    ),
    Mutant(
        "models/likelihood.py",
        "        limit = float(jnp.finfo(jnp.float32).max)\n",
        "        limit = float('inf')\n",
        "models/test_likelihood.py::test_an_infinite_logit_that_is_right_costs_nothing "
        "models/test_likelihood.py::test_bernoulli_stays_finite",
    ),
]

NUMBERS = [*COUNTS, *HAMILTONIAN, *OBJECTIVES, *VAES]
