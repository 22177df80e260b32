"""A persistent cache of compiled programs, so that a similar run starts sooner."""

import os
from pathlib import Path

import jax

OPT_OUT = "HVAX_COMPILE_CACHE"
"""Set this environment variable to 0 to disable the cache."""

_MIN_COMPILE_SECONDS = 0.1  # faster compilations are not cached: reading takes longer


def keep_compiled_programs() -> None:
    """Turn on JAX's persistent compilation cache, in `$XDG_CACHE_HOME/hvax` or ~/.cache/hvax.

    Does nothing if JAX already has a cache folder (JAX_COMPILATION_CACHE_DIR, or its
    configuration), if HVAX_COMPILE_CACHE is 0, or if there is no home folder.
    """
    configured = (
        getattr(jax.config, "jax_compilation_cache_dir", None)
        or "JAX_COMPILATION_CACHE_DIR" in os.environ
    )
    if configured or os.environ.get(OPT_OUT) == "0":
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home folder
        return
    jax.config.update("jax_compilation_cache_dir", str(cache / "hvax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)
    # JAX sets up its cache once, at the first compilation, which may have been before this call.
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()
