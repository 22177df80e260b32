"""With the rest of scikit-learn: pipelines, searches, and compiled programs shared among them."""

import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimator.conftest import SMALL, holes, line
from hvax.data.batches import shared_size
from hvax.sklearn import HVAE

pytestmark = pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")


def test_a_pipeline_of_columns(x):
    frame = pandas.DataFrame(holes(x), columns=list("abcde"), index=np.arange(60) * 2)
    columns = ColumnTransformer(
        [
            ("codes", HVAE(**SMALL, flow=None), ["a", "b", "c"]),
            ("as they are", "passthrough", ["e"]),
        ]
    ).set_output(transform="pandas")
    made = columns.fit_transform(frame)
    assert list(made.columns) == ["codes__hvae0", "codes__hvae1", "as they are__e"]
    assert made.index.equals(frame.index)
    y = x[:, 0] > 0
    classifier = make_pipeline(StandardScaler(), HVAE(**SMALL, flow=None), LogisticRegression())
    assert 0.5 < classifier.fit(frame, y).score(frame, y) <= 1


def test_a_search_over_parameters(x):
    search = GridSearchCV(HVAE(**SMALL, flow=None), {"n_components": [1, 2]}, cv=2, refit=True)
    search.fit(holes(x))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(x).shape == (60, search.best_params_["n_components"])


@pytest.mark.slow
def test_a_search_in_two_processes(x):
    plan = HVAE(**SMALL, flow=None)
    alone, both = (
        GridSearchCV(plan, {"hidden": [(4,), (8,)]}, cv=2, n_jobs=jobs).fit(x).cv_results_
        for jobs in (None, 2)
    )
    np.testing.assert_allclose(both["mean_test_score"], alone["mean_test_score"], rtol=1e-5)


def test_the_second_fit_of_a_structure_compiles_nothing(compiled):
    """Of other rows, as many or about as many; with training, validation, codes and densities."""

    def use(rows, seed):
        x = line(rows, seed=seed)
        estimator = HVAE(**(SMALL | {"hidden": (7,)})).fit(x)  # of no other test
        estimator.transform(x[:7])
        estimator.score(x)

    use(70, 0)
    assert any("program_of" in name for name in compiled())
    use(70, 1)
    use(71, 2)
    assert compiled() == []


def test_folds_share_their_programs(compiled):
    x = line(88)
    cross_val_score(HVAE(**SMALL), x, cv=3)
    once = [name for name in compiled() if "program_of" in name]
    assert len(once) <= 4  # training and validation, of the VAE and of its flow
    cross_val_score(HVAE(**SMALL), x, cv=4)
    again = [name for name in compiled() if "program_of" in name]
    assert again == []


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1437, 1438, 60_000])
def test_shared_sizes_are_few_and_hardly_larger(n):
    assert n <= shared_size(n) <= max(64, n * 9 / 8 + 64 * (n < 512))
    assert shared_size(shared_size(n)) == shared_size(n)
    assert len({shared_size(m) for m in range(1, 10_000)}) < 50
