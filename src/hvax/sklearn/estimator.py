"""`HVAE`, a Hamiltonian VAE as an estimator of scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from hvax.checks import count, positive
from hvax.evaluation.imputation import impute
from hvax.evaluation.latent import decode, sample
from hvax.evaluation.rows import encoder_means, log_prob
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.pipeline.models import flow_of
from hvax.sklearn.columns import Columns, Numbers, is_frame
from hvax.sklearn.training import Plan, trained

_SCORE, _IMPUTE = 1, 2  # streams of random numbers, beside those of training


class HVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """A Hamiltonian variational autoencoder of the rows of a table: codes, densities, imputation.

        p(x) = integral of p(x | z) p(z) dz,   z of n_components dimensions

    `X` is an array (n, d) of numbers, or a DataFrame, whose columns may be of several kinds. NaN is
    a missing value, in `fit` and everywhere else. What a row gives depends on that row alone.

    **Parameters:**

    - `n_components`: dimensions of z; None is half the number of columns, at least 2 and at most
      20.
    - `likelihood`: "auto", or "gaussian", "fixed-gaussian", "bernoulli", "categorical", "poisson",
      "negative-binomial", or "mixed", a family for each column of a DataFrame. "auto" is what suits
      the training rows; scores are comparable only among models of one likelihood.
    - `flow`: "dais", "hvae", "uha", "ula", "reference", an `hvax.AbstractFlow`, or None, a plain
      VAE.
    - `hidden`: sizes of the encoder's hidden layers, which the decoder mirrors; None is (400,), or
      (100,) for fewer than 1,000 training rows.
    - `kinds`: the kinds of some columns of a DataFrame by name, see `hvax.Table`. `unseen`: a
      class that `fit` has not seen is taken for "missing", with a warning, or "refuse"d.
    - `max_epochs`, `batch_size`, `patience`: None chooses by the number of rows, see `hvax.fit`.
    - `learning_rate`: of Adam.
    - `validation_fraction`: the share of the rows that choose the best epoch and end the training.
      None are kept aside at 0, where they would be fewer than 4, and where a column would have no
      value without them.
    - `n_samples`: draws of z for each log-density of `score_samples`.
    - `random_state`: an integer for results that are the same in every run.
    - `verbose`: 1 shows progress.

    **Attributes:** `model_` (for `hvax.evaluate` and others), `history_` (a dict for each epoch),
    `n_iter_` (epochs), `table_` (the `hvax.Table` of a DataFrame, else None), `n_features_in_`,
    `feature_names_in_`.

    Raises `ValueError` and `TypeError` for parameters and data that do not suit.
    """

    def __init__(
        self,
        n_components: Any = None,
        *,
        likelihood: Any = "auto",
        flow: Any = "dais",
        hidden: Any = None,
        kinds: Any = None,
        unseen: Any = "missing",
        max_epochs: Any = None,
        batch_size: Any = None,
        learning_rate: Any = 1e-3,
        patience: Any = None,
        validation_fraction: Any = 0.1,
        n_samples: Any = 100,
        random_state: Any = None,
        verbose: Any = 0,
    ):
        self.n_components = n_components
        self.likelihood = likelihood
        self.flow = flow
        self.hidden = hidden
        self.kinds = kinds
        self.unseen = unseen
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.n_samples = n_samples
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "HVAE":
        """Train on rows X (n, d), n >= 2: the plain VAE first, then its flow. y is not used.

        Ctrl-C raises `KeyboardInterrupt`. Warns as `hvax.fit` does.
        """
        plan = self._plan()
        name = None if self.likelihood == "auto" else self.likelihood
        columns: Numbers | Columns
        if is_frame(X):
            numbers = name not in (None, "mixed")
            columns = Columns(self, X, self.kinds, unseen=self.unseen, numbers=numbers)
        else:
            columns = Numbers(self, X, self.kinds)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        fitted, latent_size = trained(columns.source, name, plan, seed)
        self._seed, self._columns, self._n_features_out = seed, columns, latent_size
        self.table_ = getattr(columns, "table", None)
        self.model_, self.history_ = fitted.model, fitted.history
        self.n_iter_ = len(fitted.history)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """The mean of the encoder's q(z_0 | x) of each row: (n, n_components), of X's dtype.

        It is where the flow starts, and needs no random numbers. For the posterior itself use
        `hvax.encode(estimator.model_, ...)`.
        """
        x = self._read(X)
        return encoder_means(self.model_, x).astype(x.dtype)

    def inverse_transform(self, Z: Any) -> Any:
        """E[x | z] of latent points Z (n, n_components), in the data's units: (n, d).

        Of classes it is the most probable one. A DataFrame if `fit` had one.
        """
        check_is_fitted(self)
        points = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if points.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z must have {self._n_features_out} columns, one for each component, got "
                f"{points.shape[1]}. Give what transform returns."
            )
        return self._columns.restored(decode(self.model_, points, progress=False))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """log p(x) of each row, of its observed values, in nats: (n,).

        Estimated by importance sampling with `n_samples` draws of z, moved by the flow. The
        estimate is a lower bound on average, which rises with `n_samples`.
        """
        x = self._read(X)
        return log_prob(
            self.model_, x, key=self._key(_SCORE), num_samples=count(self.n_samples, "n_samples")
        )

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples` over the rows, in nats. y is not used."""
        return float(np.mean(self.score_samples(X)))

    def impute(
        self,
        X: Any,
        *,
        return_draws: bool = False,
        interval: float | None = None,
        n_draws: int = 100,
    ) -> Any:
        """X with E[missing | observed] in the place of missing values; observed ones are unchanged.

        An array or DataFrame like X. Of classes it is the most probable one.

        **Arguments:**

        - `return_draws`: return (filled, draws), with `n_draws` completions of X, each with one
          draw of all missing values: (n_draws, n, d), or a list of DataFrames.
        - `interval`: return (filled, low, high): the ends between which a missing value lies with
          that probability, such as 0.9. With both it is (filled, draws, low, high).
        - `n_draws`: draws of each missing value.
        """
        x = self._read(X)
        found = impute(
            self.model_,
            x,
            key=self._key(_IMPUTE),
            num_draws=n_draws,
            progress=bool(self.verbose),
        )
        filled = self._columns.imputed(X, found)
        given = [filled.mean]
        if return_draws:
            given.append(filled.draws)
        if interval is not None:
            given += filled.interval(interval)
        return given[0] if len(given) == 1 else tuple(given)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """New rows from the model: (n_samples, d), or a DataFrame if `fit` had one."""
        check_is_fitted(self)
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        rows = sample(
            self.model_,
            count(n_samples, "n_samples"),
            key=jax.random.key(int(seed)),
            latent_size=self._n_features_out,
            progress=False,
        )
        return self._columns.restored(rows)

    def _read(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        return self._columns.read(self, X)

    def _key(self, stream: int) -> Any:
        return jax.random.fold_in(jax.random.key(self._seed), stream)

    def _plan(self) -> Plan:
        """The parameters of training, checked."""
        for name in ("n_components", "max_epochs", "batch_size"):
            if getattr(self, name) is not None:
                count(getattr(self, name), name)
        if self.patience is not None:
            count(self.patience, "patience", least=0)
        count(self.n_samples, "n_samples")
        share = self.validation_fraction
        if isinstance(share, bool) or not isinstance(share, int | float | np.number):
            raise TypeError(f"validation_fraction must be a number, got {share!r}. Give 0.1.")
        if not 0 <= share < 1:
            raise ValueError(f"validation_fraction must be >= 0 and < 1, got {share}. Give 0.1.")
        if not (self.kinds is None or isinstance(self.kinds, Mapping)):
            raise TypeError(
                f"kinds must be a dict of column names, got {self.kinds!r}. Give "
                "{'age': 'count'}, for example."
            )
        if self.unseen not in ("refuse", "missing"):
            raise ValueError(f"unseen must be 'refuse' or 'missing', got {self.unseen!r}.")
        if not (self.flow is None or isinstance(self.flow, str | AbstractFlow)):
            raise TypeError(
                f"flow must be a name, an hvax.AbstractFlow or None, got {self.flow!r}. Give "
                "'dais', for example."
            )
        return Plan(
            latent_size=self.n_components,
            hidden=_layers(self.hidden),
            flow=flow_of(self.flow),
            epochs=self.max_epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            learning_rate=positive(self.learning_rate, "learning_rate"),
            validation_fraction=float(share),
            progress=bool(self.verbose),
        )

    def __sklearn_tags__(self) -> Any:
        tags = TransformerMixin.__sklearn_tags__(self)  # and of the bases after it
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _layers(hidden: Any) -> tuple[int, ...] | None:
    if hidden is None:
        return None
    sizes = list(hidden) if isinstance(hidden, Sequence | np.ndarray) else [hidden]
    if not sizes or isinstance(hidden, str):
        raise ValueError(f"hidden must be sizes of layers, at least one, got {hidden!r}.")
    return tuple(count(size, "each number of hidden") for size in sizes)
