"""The warnings that hvax gives, by name; docs/warnings.md says what each means and what to do."""

import warnings
from typing import ClassVar


class HvaxWarning(UserWarning):
    """Of this kind is every warning of hvax's own."""

    name: ClassVar[str]


class SkippedUpdate(HvaxWarning):
    """A loss or gradient was not finite, and the model was left as it was for that step."""

    name = "skipped-update"


class DivergentTrajectories(HvaxWarning):
    """More than a hundredth of an epoch's trajectories diverged."""

    name = "divergent-trajectories"


class FlowFailed(HvaxWarning):
    """A flow failed, or made the bound worse, and was switched off: what is left is the VAE."""

    name = "flow-failed"


class WorseThanIndependent(HvaxWarning):
    """A trained model is worse on test data than independent features."""

    name = "worse-than-independent"


class StillImproving(HvaxWarning):
    """The validation bound still rose at the last epoch."""

    name = "still-improving"


class KinkedDecoder(HvaxWarning):
    """A flow through a decoder with relu or its kin: the gradient of its training is biased."""

    name = "kinked-decoder"


class DamagedCheckpoint(HvaxWarning):
    """A checkpoint could not be read, and the one before it was taken."""

    name = "damaged-checkpoint"


class WeakFileSystem(HvaxWarning):
    """A file system refuses locks or flushes to disk, and the run goes on without."""

    name = "weak-file-system"


class UntrustedNLL(HvaxWarning):
    """Too few importance samples for the posterior: the NLL is not to be trusted."""

    name = "untrusted-nll"


class FailedDraws(HvaxWarning):
    """Draws of an evaluation were not finite: how many, where, and what was scored instead."""

    name = "failed-draws"


class UnresolvedFeature(HvaxWarning):
    """A feature varies by so little, so far from 0, that float32 does not tell its values apart."""

    name = "unresolved-feature"


class GrayLevels(HvaxWarning):
    """Data between 0 and 1 under a Bernoulli: cross-entropies, not likelihoods."""

    name = "gray-levels"


def warn(kind: type[HvaxWarning], message: str) -> None:
    """Warns, under the warning's name."""
    warnings.warn(f"{kind.name}: {message}", kind, stacklevel=3)
