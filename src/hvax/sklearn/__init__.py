"""hvax at home in scikit-learn: `hvax.sklearn.HVAE` is a transformer, a density and an imputer.

    from hvax.sklearn import HVAE

It needs scikit-learn, the extra `hvax[sklearn]`; `import hvax` alone does not load it.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "hvax.sklearn must have scikit-learn, got none installed. Install hvax[sklearn]."
    ) from error

from hvax.sklearn.estimator import HVAE

__all__ = ["HVAE"]
