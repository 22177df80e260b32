"""Compiling programs that run only a few times, for which compiling takes longer than running."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import equinox as eqx
import jax


def quickly_compiled(*, level: int) -> Callable[[Callable], Callable]:
    """`equinox.filter_jit` with fewer of the compiler's optimizations on a CPU.

    `level` is LLVM's: with 1 programs take three quarters of the time to compile, and about as long
    to run as with the default, 3; with 0 a third to compile, and a few times as long to run.
    """

    def decorate(function: Callable) -> Callable:
        @cache  # the backend is asked at the first call, not on import
        def compiled() -> Callable:
            cpu = jax.default_backend() == "cpu"
            options = {"xla_backend_optimization_level": level} if cpu else None
            jit: Any = eqx.filter_jit  # whose stub lacks the options of jax.jit
            return jit(function, compiler_options=options)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return compiled()(*arguments)

        return call

    return decorate
