"""JAX's settings in a test."""

import contextlib

import jax

SETTINGS = ("jax_enable_x64", "jax_disable_most_optimizations")
# It compiles in half the time, to the same numbers but for rounding.
QUICK = {"jax_disable_most_optimizations": True}


@contextlib.contextmanager
def settings(**changes):
    """JAX's settings, changed within and afterwards as they were; `hvax.cli.main` changes them."""
    before = {name: jax.config.read(name) for name in SETTINGS}
    try:
        for name, value in changes.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
