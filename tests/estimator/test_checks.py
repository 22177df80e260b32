"""scikit-learn's own checks of estimators, all of them, with no expected failure."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from estimator.conftest import SMALL
from hvax.sklearn import HVAE

pytestmark = [
    pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning"),
    # Of a check that is for estimators with another interface, or another container.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]

# What scikit-learn runs on its own estimators besides.
OWN = (
    "check_dataframe_column_names_consistency",
    "check_global_output_transform_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
)


@pytest.mark.slow
@parametrize_with_checks([HVAE(**SMALL), HVAE(**SMALL, flow=None)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The checks pass frames to fit and arrays to transform, of which scikit-learn itself warns.
@pytest.mark.filterwarnings("ignore:X .*feature names")
@pytest.mark.parametrize("name", OWN)
def test_output_containers(name):
    getattr(estimator_checks, name)("HVAE", HVAE(**SMALL, flow=None))
