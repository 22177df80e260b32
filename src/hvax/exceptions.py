"""The warnings of hvax, by name. docs/warnings.md says what each means and what to do."""

import sys
import warnings
from typing import ClassVar

_OURS = ("hvax", "jax", "equinox", "jaxtyping", "beartype", "contextlib")


class HvaxWarning(UserWarning):
    """Base class of all warnings of hvax."""

    name: ClassVar[str]


class SkippedUpdate(HvaxWarning):
    """A loss or gradient was not finite, so the update was skipped and the model kept as it was."""

    name = "skipped-update"


class DivergentTrajectories(HvaxWarning):
    """More than 1% of the flow's trajectories diverged in an epoch."""

    name = "divergent-trajectories"


class FlowFailed(HvaxWarning):
    """The flow failed or made the bound worse, and was switched off; the plain VAE remains."""

    name = "flow-failed"


class WorseThanIndependent(HvaxWarning):
    """The trained model has a lower test likelihood than a model of independent features."""

    name = "worse-than-independent"


class StillImproving(HvaxWarning):
    """The validation ELBO was still rising when training ended."""

    name = "still-improving"


class KinkedDecoder(HvaxWarning):
    """The decoder of a flow has relu or a similar activation, which biases its gradient."""

    name = "kinked-decoder"


class DamagedCheckpoint(HvaxWarning):
    """The latest checkpoint could not be read; the previous one was used."""

    name = "damaged-checkpoint"


class WeakFileSystem(HvaxWarning):
    """The file system does not support locks or flushes to disk; the run continues without them."""

    name = "weak-file-system"


class UntrustedNLL(HvaxWarning):
    """The importance weights vary too much for the number of samples: do not trust the NLL."""

    name = "untrusted-nll"


class FailedDraws(HvaxWarning):
    """Draws of an evaluation were not finite. Says at which points, and what was scored instead."""

    name = "failed-draws"


class UnseenClass(HvaxWarning):
    """A table has classes that the model did not learn; they were taken as missing values."""

    name = "unseen-class"


class UnknownColumn(HvaxWarning):
    """A table has columns that the model does not know; they were not used."""

    name = "unknown-column"


class UnresolvedFeature(HvaxWarning):
    """A feature varies too little, relative to its size, for float32 to resolve its values."""

    name = "unresolved-feature"


class GrayLevels(HvaxWarning):
    """Gray levels with a Bernoulli likelihood: results are cross-entropies, not likelihoods."""

    name = "gray-levels"


def warn(kind: type[HvaxWarning], message: str) -> None:
    """Give a warning; its message starts with the warning's name, and it points to the user's line:
    the innermost one outside hvax and the libraries that call it back."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{kind.name}: {message}", kind, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS
