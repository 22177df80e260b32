"""`hvax.train`: from data to a trained model, a plain VAE beside it, and the scores of both."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import optax
from tqdm import tqdm

from hvax.checks import check_path, count, shape
from hvax.compile_cache import keep_compiled_programs
from hvax.data.examples import subsample
from hvax.evaluation.evaluate import evaluate
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.models.hvae import without_flow
from hvax.models.latent_model import AbstractLatentModel
from hvax.pipeline.judge import judge
from hvax.pipeline.models import flow_of, models_for, num_gradients_of
from hvax.pipeline.networks import Network, build_vae, networks_of, sizes_for
from hvax.pipeline.parts import Parts, load_parts
from hvax.pipeline.references import reference_rows
from hvax.pipeline.settings import Settings, settings_for
from hvax.pipeline.table import describe, how_it_ended
from hvax.pipeline.trained import Scored, Trained
from hvax.report.model_view import name_of
from hvax.storage.run_files import copy_training
from hvax.storage.run_folder import BASELINE, BEFORE_FLOW, check_unused, read_plan
from hvax.training.fit import fit
from hvax.training.interrupt import ENDED_BY_A_SIGNAL
from hvax.training.phase import Fit


def train(
    data: Any,
    *,
    flow: str | AbstractFlow | None = "dais",
    baseline: bool = True,
    network: Network = "mlp",
    hidden: Sequence[int] | None = None,
    latent_size: int | None = None,
    warm_start: AbstractLatentModel | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    patience: int | None = None,
    flow_from_epoch: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    train_samples: int = 1,
    estimator: Literal["standard", "dreg"] = "standard",
    num_samples: int = 500,
    test_points: int = 1000,
    seed: int = 0,
    run_dir: str | Path | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    max_skipped: int = 10,
    progress: bool = True,
    handle_signals: bool = False,
) -> Trained:
    """Train a model on data, and the plain VAE beside it, and score both on test data.

    It does what `hvax train` does: with the same seed and options the weights are the same, bit for
    bit. The result has `model`, `fitted`, `scores`, `baseline`, `difference`, `parts` (the data:
    `train`, `validation`, `test`), `history`, `run_dir`, and the methods `encode`, `sample`,
    `reconstruct`, `impute`, `score`, `report` and `save`:

        trained = hvax.train("table.csv")
        print(trained)                                    # the table of scores
        z = trained.encode(trained.parts.test).mean

    **Arguments:**

    - `data`: a name, a path, or examples in memory, (n, *x_shape), of which tenths are set apart to
      validate and to test; see `hvax.load_parts`, whose result is taken too, where something is to
      be read or prepared otherwise: `hvax.train(hvax.load_parts("a.csv", labels="kind"))`.
    - `flow`: "dais", "uha", "hvae", "ula" or "reference" (see docs/flows.md), a flow, or None for a
      plain VAE.
    - `baseline`: beside a model with a flow, train the plain VAE with the same networks, data and
      epochs. The epochs before the flow are trained once for both.
    - `network`, `hidden`, `latent_size`: "mlp", the sizes of its hidden layers (by default 400, or
      100 for fewer than 1,000 training examples) and of z (20, or half the features where those
      are fewer); or "conv", the paper's network for 28 x 28 images.
    - `warm_start`: a trained model of the same sizes, whose networks are trained on. The flow is
      then there from the first epoch on.
    - `epochs`, `batch_size`, `patience`, `flow_from_epoch`, `optimizer`, `seed`, `save_seconds`,
      `max_skipped`, `handle_signals`: as `fit` has them.
    - `train_samples`, `estimator`: draws per example in training, and the gradient of their bound,
      "standard" or "dreg".
    - `num_samples`, `test_points`: importance samples of the NLL, on at most so many test examples.
    - `run_dir`: a folder for checkpoints, the best models and the metrics of each epoch, the
      baseline's in its folder baseline/. Without one they lie in a temporary folder meanwhile.
    - `resume`: go on from the latest checkpoints in `run_dir`, with the same arguments; more
      `epochs` and another `patience` are allowed.
    - `progress`: show progress bars, what was made of the data, and how each training ended.

    Raises what `load_parts` and `fit` raise, `ValueError` for a flow that is not known, a
    `run_dir` that holds a run and networks that data or `warm_start` do not suit, and
    `KeyboardInterrupt` at Ctrl-C, after the checkpoint of the steps in hand (see `handle_signals`
    of `fit`). Warns as the program does, see docs/warnings.md.
    """
    keep_compiled_programs()
    key = jax.random.key(count(seed, "seed", least=0))
    if run_dir is not None:
        check_path(run_dir, "run_dir")
    folder = None if run_dir is None else Path(run_dir)
    if resume and folder is None:
        raise ValueError("`resume` needs the `run_dir` to resume from.")
    if folder is not None and not resume:
        check_unused(folder)
    parts = data if isinstance(data, Parts) else load_parts(data)
    sizes = sizes_for(
        parts,
        hidden=None if hidden is None else shape(hidden, "hidden"),
        latent_size=None if latent_size is None else count(latent_size, "latent_size"),
    )
    vae = build_vae(parts, sizes, network=network, key=key)
    if warm_start is not None:
        vae = networks_of(warm_start, vae, "`warm_start`")
    models = models_for(vae, flow_of(flow), baseline=baseline)
    settings = settings_for(
        len(parts.train),
        gradients=num_gradients_of(models),
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        flow_from_epoch=_begun(folder, flow_from_epoch) if resume else flow_from_epoch,
        trained=warm_start is not None,
        optimizer=optimizer,
        train_samples=train_samples,
        estimator=estimator,
        num_samples=num_samples,
        test_points=test_points,
        seed=seed,
        save_seconds=save_seconds,
        max_skipped=max_skipped,
    )
    settings.check(vae, parts)
    if progress:
        tqdm.write(describe(parts, network, sizes, settings))
    return train_models(
        models,
        parts,
        settings,
        flow_label=flow if isinstance(flow, str) else name_of(models[next(reversed(models))]),
        run_dir=folder,
        resume=resume,
        tell=tqdm.write if progress else _silent,
        progress=progress,
        handle_signals=handle_signals,
    )


def _begun(folder: Path | None, given: int | None) -> int | None:
    """`flow_from_epoch` as given, or that of the training which is resumed."""
    return given if given is not None or folder is None else read_plan(folder)


def _silent(text: str) -> None:
    pass


def train_models(
    models: Mapping[str, AbstractLatentModel],
    parts: Parts,
    settings: Settings,
    *,
    flow_label: str,
    run_dir: Path | None,
    resume: bool,
    tell: Callable[[str], Any],
    progress: bool,
    handle_signals: bool,
) -> Trained:
    """Train the models of `models_for`, and score each; `train` explains the rest.

    `tell` is called with a few lines after each training. Where signals are handled, and one ended
    a training, `unfinished` is that training.
    """
    with _folder(run_dir) as folder:
        return _Training(
            trained=Trained(
                parts=parts,
                settings=settings,
                name="hvae" if "hvae" in models else "vae",
                labels={"vae": "VAE", "hvae": flow_label.upper()},
                run_dir=run_dir,
                progress=progress,
            ),
            folder=folder,
            tell=tell,
            progress=progress,
            handle_signals=handle_signals,
        ).run(models, resume=resume)


@contextlib.contextmanager
def _folder(run_dir: Path | None) -> Iterator[Path]:
    """Where checkpoints lie: a baseline goes on from those of the epochs before the flow."""
    if run_dir is not None:
        yield run_dir
        return
    with tempfile.TemporaryDirectory(prefix="hvax-") as temporary:
        yield Path(temporary) / "run"


class _Training:
    """The models of one `train`, one after the other."""

    def __init__(
        self,
        *,
        trained: Trained,
        folder: Path,
        tell: Callable[[str], Any],
        progress: bool,
        handle_signals: bool,
    ):
        self.trained, self.folder, self.tell = trained, folder, tell
        self.progress, self.handle_signals = progress, handle_signals

    def run(self, models: Mapping[str, AbstractLatentModel], *, resume: bool) -> Trained:
        trained, parts, settings = self.trained, self.trained.parts, self.trained.settings
        test = subsample(parts.test, settings.test_points)
        trained.references, independent = reference_rows(parts, test)
        first = settings.flow_from_epoch
        if first > 1:  # these epochs are trained once: all models go on from them
            vae = without_flow(models["hvae"])
            before = self.folder / BEFORE_FLOW
            fitted = self._fit(vae, before, resume=resume, epochs=first - 1)
            if self._is_unfinished("vae", fitted):
                return trained
            if "vae" in models:
                copy_training(self.folder / BASELINE, before)
        for name, model in models.items():
            folder = self.folder if name == trained.name else self.folder / BASELINE
            try:
                fitted = self._fit(model, folder, resume=resume or first > 1, flow_from_epoch=first)
            except FloatingPointError as error:
                if not trained.results:
                    raise
                trained.failed = {"model": name, "why": " ".join(str(error).split())}
                self.tell(f"{trained.labels[name]} failed: {error}")
                break
            if self._is_unfinished(name, fitted):
                return trained
            self.tell(how_it_ended(trained.labels[name], fitted, settings))
            trained.results[name] = self._scored(name, fitted)
            judge(trained, name, test, independent)
        return trained

    def _fit(self, model: AbstractLatentModel, folder: Path, *, resume: bool, **others: Any) -> Fit:
        parts = self.trained.parts
        return fit(
            model,
            parts.train,
            validation=parts.validation,
            transform=parts.transform,
            progress=self.progress,
            run_dir=folder,
            resume=resume,
            handle_signals=self.handle_signals,
            **self.trained.settings.arguments() | others,
        )

    def _is_unfinished(self, name: str, fitted: Fit) -> bool:
        if fitted.ended not in ENDED_BY_A_SIGNAL:
            return False
        self.trained.unfinished = fitted
        self.tell(how_it_ended(self.trained.labels[name], fitted, self.trained.settings))
        return True

    def _scored(self, name: str, fitted: Fit) -> Scored:
        trained = self.trained
        scores = evaluate(
            fitted.model,
            subsample(trained.parts.test, trained.settings.test_points),
            key=jax.random.key(0),  # not of the seed: runs are compared on the same draws
            num_samples=trained.settings.num_samples,
            progress=self.progress,
        )
        return Scored(trained.labels[name], fitted, scores)
