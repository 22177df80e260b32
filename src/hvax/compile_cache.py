"""Compiled programs kept in the user's cache folder, so that a like run starts sooner."""

import os
from pathlib import Path

import jax

OPT_OUT = "HVAX_COMPILE_CACHE"
"""Set this environment variable to 0 to keep nothing."""

_LEAST_SECONDS = 0.1  # of compiling: what takes less is sooner compiled than read


def keep_compiled_programs() -> None:
    """Turns JAX's compilation cache on, in `$XDG_CACHE_HOME/hvax` or ~/.cache/hvax.

    Nothing is changed where JAX has been told of a folder (JAX_COMPILATION_CACHE_DIR, or its
    configuration), where HVAX_COMPILE_CACHE is 0, or where there is no home folder.
    """
    told = (
        getattr(jax.config, "jax_compilation_cache_dir", None)
        or "JAX_COMPILATION_CACHE_DIR" in os.environ
    )
    if told or os.environ.get(OPT_OUT) == "0":
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder
        return
    jax.config.update("jax_compilation_cache_dir", str(cache / "hvax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    # JAX looks for the cache once, at its first compilation, which may have been before this.
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()
