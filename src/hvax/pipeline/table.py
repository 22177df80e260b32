"""A training in words: what is made of the data, how each model ended, and the table of scores."""

from pathlib import Path
from typing import Any

from hvax.data.source import SOURCES
from hvax.data.split import FRACTIONS
from hvax.evaluation.table import gray_warning, untrusted_advice
from hvax.pipeline.likelihood import name_of
from hvax.pipeline.networks import Network, Sizes
from hvax.pipeline.parts import Parts
from hvax.pipeline.settings import Settings
from hvax.pipeline.trained import Trained
from hvax.storage.run_folder import BASELINE
from hvax.storage.structure import digest
from hvax.training.phase import Fit
from hvax.wording import counted, words

_FEW = 20  # test points, of which a standard error is none
_PARTS = ("train", "validation", "test")
_REFERENCES = {"independent": "independent", "gaussian": "Gaussian"}
_FAMILY = {"gaussian": "gaussian, learned sigma"}


def describe(parts: Parts, network: Network, sizes: Sizes, settings: Settings) -> str:
    """Two lines about data and model, and one for each thing that was left out or looks odd."""
    counts = ", ".join(f"{len(getattr(parts, part))} {part}" for part in _PARTS)
    shape = " x ".join(map(str, parts.train.x_shape))
    kind = "columns" if parts.feature_names is not None else "numbers"
    units = parts.independent.describe() if parts.standardized else "as they are"
    bits = "; binarized" if parts.transform is not None else ""
    shown = "conv" if network == "conv" else f"mlp {' '.join(map(str, sizes.hidden))}"
    likelihood = name_of(parts.likelihood)
    lines = [
        f"{parts.name}: {counts}; {shape} {kind}; {units}{bits}",
        f"{_FAMILY.get(likelihood, likelihood)} likelihood; {shown}, "
        f"{sizes.latent_size} latent; at most {settings.epochs} epochs, batches of "
        f"{settings.batch_size}",
    ]
    return "\n".join([*lines, *(f"note: {text}" for text in parts.notes)])


def how_it_ended(label: str, fitted: Fit, settings: Settings) -> str:
    """Two lines about a training: why it ended and when, and the digest of its weights."""
    skipped = f"; {fitted.skipped} updates skipped" if fitted.skipped else ""
    ended = {"flow failed": "flow switched off", "flow of no use": "flow switched off"}
    if fitted.ended == "early stop":
        why = f"stopped early (no better validation ELBO for {settings.patience} epochs)"
    else:
        why = ended.get(fitted.ended, fitted.ended)
    epochs = counted(fitted.vae_epochs or len(fitted.history), "epoch")
    if fitted.vae_epochs:
        epochs += f" of the VAE and {len(fitted.history) - fitted.vae_epochs} with the flow"
    return (
        f"{label:5} {why} after {epochs}; "
        f"best epoch {fitted.best_epoch}{skipped}; {fitted.seconds_training:.1f} s training, "
        f"{fitted.seconds_compiling:.1f} s compiling\n"
        f"      weights {digest(fitted.model)[:16]}"
    )


def outcome_table(trained: Trained) -> str:
    """ELBO and NLL of each model, beside simple references, and their difference point by point."""
    results = trained.results
    first = next(iter(results.values())).scores
    heads = ("", "ELBO", f"NLL ({first.num_samples} samples)", "seconds", "flow moves z by")
    cells = [heads]
    for name, label in _REFERENCES.items():
        if (row := trained.references.get(name)) is not None:
            cells.append((label, "-", _pm(row["nll"], row["nll_se"]), "-", "-"))
    for name, scored in results.items():
        score = scored.scores
        flowed = name == "hvae" and score.beta is not None
        moved = f"{score.distance:.2f} encoder sd" if flowed else "-"
        if scored.fit.ended in ("flow failed", "flow of no use"):
            moved = "switched off"
        elif flowed and scored.fit.best_epoch <= scored.fit.vae_epochs:
            moved += ", untrained"
        elbo, nll = _pm(score.elbo, score.elbo_se), _pm(score.nll, score.nll_se)
        cells.append((scored.label, elbo, nll, f"{scored.fit.seconds_training:.1f}", moved))
    if (apart := trained.difference) is not None:
        elbo = f"{apart['elbo']:+.3f} +- {apart['elbo_se']:.3f}"
        nll = f"{apart['nll']:+.3f} +- {apart['nll_se']:.3f}"
        cells.append((f"{results['hvae'].label} - VAE", elbo, nll, "", "point by point"))
    lines = [f"On {first.num_points} test points, in nats, +- one standard error over points:"]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for line in cells:
        rest = "  ".join(f"{cell:>{w}}" for cell, w in zip(line[1:], widths[1:], strict=True))
        lines.append(f"{line[0]:{widths[0]}}  {rest}".rstrip())
    return "\n".join([*lines, *_what_stands_against_it(trained)])


def _what_stands_against_it(trained: Trained) -> list[str]:
    """Lines below the table: a model that failed, too few points, an NLL not to be trusted."""
    parts, results, lines = trained.parts, trained.results, []
    first = next(iter(results.values())).scores
    if trained.failed is not None:
        lines.append(f"{trained.labels[trained.failed['model']]} failed: {trained.failed['why']}")
    few = first.num_points < min(_FEW, trained.settings.test_points)
    if few and parts.fractions == FRACTIONS and parts.name not in SOURCES:
        more = words("fractions=(0.6, 0.2, 0.2)", "--fractions 0.6 0.2 0.2")
        lines.append(
            f"With {first.num_points} test points the errors say little: {more} tests on more."
        )
    if first.gray:
        lines.append(gray_warning())
    untrusted = [name for name, scored in results.items() if not scored.scores.trusted]
    if untrusted:  # of the model with a flow, where it is among them
        lines.append(f"WARNING {untrusted_words_of(trained, untrusted[-1])}")
    return lines


def untrusted_words_of(trained: Trained, name: str) -> str:
    """The warning untrusted-nll of one of the models: which, what it is about, and the cure."""
    scored, beside = trained.results[name], name != trained.name
    options: dict[str, Any] = {
        "about": scored.label,
        "python": ("trained.model", "trained.parts.test"),
    }
    if beside:
        options["about"] += ", the baseline"
        options["python"] = ("trained.baseline.model", "trained.parts.test")
    also = f", and {trained.labels[trained.name]}'s gain in NLL with it" if beside else ""
    affects = f"This NLL may be too high{also}. ELBOs hold."
    return untrusted_advice(scored.scores, folder_of(trained, name), affects=affects, **options)


def folder_of(trained: Trained, name: str) -> Path | None:
    """Where a model is, for the program's advice; None in Python, whose advice is calls."""
    if trained.run_dir is None or not words("", "the program"):
        return None
    return trained.run_dir if name == trained.name else trained.run_dir / BASELINE


def _pm(value: float, error: float) -> str:
    digits = 2 if abs(value) < 1e6 else 0
    return f"{value:.{digits}f} +- {error:.{digits}f}"
