"""What `hvax train` says in words: what it has made of the data, and the table at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvax.commands.build import Parts
from hvax.config import Train
from hvax.data.source import SOURCES
from hvax.data.split import FRACTIONS
from hvax.evaluation.evaluate import Evaluation
from hvax.evaluation.table import gray_warning, untrusted_advice
from hvax.storage.run_folder import BASELINE

_FEW = 20  # test points, of which a standard error is none
_PARTS = ("train", "validation", "test")
_REFERENCES = {"independent": "independent", "gaussian": "Gaussian"}
_FAMILY = {"gaussian": "gaussian, learned sigma"}


def describe(config: Train, parts: Parts) -> str:
    """Two lines about data and model, and one for each thing that was left out or looks odd."""
    sizes = ", ".join(f"{len(getattr(parts, part))} {part}" for part in _PARTS)
    shape = " x ".join(map(str, parts.train.x_shape))
    kind = "columns" if parts.feature_names is not None else "numbers"
    model, options = config.model, config.train
    units = parts.independent.describe() if config.data.standardize else "as they are"
    bits = "; binarized" if parts.transform is not None else ""
    network = "conv" if model.network == "conv" else f"mlp {' '.join(map(str, model.hidden or ()))}"
    lines = [
        f"{config.source}: {sizes}; {shape} {kind}; {units}{bits}",
        f"{_FAMILY.get(model.likelihood or '', model.likelihood)} likelihood; {network}, "
        f"{model.latent_size} latent; at most {options.epochs} epochs, batches of "
        f"{options.batch_size}",
    ]
    return "\n".join([*lines, *(f"note: {text}" for text in parts.notes)])


def outcome_table(
    config: Train, rows: Mapping[str, Any], scores: Mapping[str, Evaluation], run_dir: Path
) -> str:
    """ELBO and NLL of each model, beside simple references, and their difference point by point."""
    first = next(iter(scores.values()))
    heads = ("", "ELBO", f"NLL ({first.num_samples} samples)", "seconds", "flow moves z by")
    cells = [heads]
    for name, label in _REFERENCES.items():
        if name in rows:
            cells.append((label, "-", _pm(rows[name]["nll"], rows[name]["nll_se"]), "-", "-"))
    for name, score in scores.items():
        moved = f"{score.distance:.2f} sd" if name == "hvae" and score.beta is not None else "-"
        if rows[name]["ended"] in ("flow failed", "flow of no use"):
            moved = "switched off"
        seconds = f"{rows[name]['seconds_training']:.1f}"
        elbo, nll = _pm(score.elbo, score.elbo_se), _pm(score.nll, score.nll_se)
        cells.append((_label(config, name), elbo, nll, seconds, moved))
    if (apart := rows.get("difference")) is not None:
        elbo = f"{apart['elbo']:+.3f} +- {apart['elbo_se']:.3f}"
        nll = f"{apart['nll']:+.3f} +- {apart['nll_se']:.3f}"
        cells.append((f"{_label(config, 'hvae')} - VAE", elbo, nll, "", "point by point"))
    lines = [f"On {first.num_points} test points, in nats, +- one standard error over points:"]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        rest = "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        lines.append(f"{row[0]:{widths[0]}}  {rest}".rstrip())
    if "failed" in rows:
        name = _label(config, rows["failed"]["model"])
        lines.append(f"{name} failed: {rows['failed']['why']}")
    few = first.num_points < min(_FEW, config.train.test_points)
    if few and config.data.fractions == FRACTIONS and config.source not in SOURCES:
        lines.append(
            f"With {first.num_points} test points the errors say little: --fractions 0.6 0.2 0.2 "
            "tests on more."
        )
    if first.gray:
        lines.append(gray_warning())
    untrusted = [name for name, score in scores.items() if not score.trusted]
    if untrusted:  # of the model with a flow, where it is among them
        name = untrusted[-1]
        folder = run_dir if name == config.model.model else run_dir / BASELINE
        advice = untrusted_advice(scores[name], folder)
        lines.append(f"WARNING {advice.replace(':', f': {_label(config, name)}:', 1)}")
    return "\n".join(lines)


def _pm(value: float, error: float) -> str:
    digits = 2 if abs(value) < 1e6 else 0
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def _label(config: Train, name: str) -> str:
    """What a model is called: the one with a flow by its flow."""
    return (config.flow.flow if name == "hvae" else name).upper()
