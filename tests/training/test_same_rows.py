"""A run goes on with the rows that it was trained on, every one of them, and with no others."""

import numpy as np
import pytest

import hvax
from hvax.data import Examples
from hvax.data.digest import digest_of_numbers, digest_of_rows
from models_for_tests import linear_gaussian

ROWS = np.random.default_rng(0).normal(size=(6000, 3)).astype(np.float32)


def train(run, rows, validation, **options):
    return hvax.fit(
        linear_gaussian(),
        rows,
        validation=validation,
        epochs=1,
        batch_size=3000,
        prepare=False,
        progress=False,
        run_dir=run,
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows") / "run"
    train(folder, ROWS, ROWS[:40])
    return folder


@pytest.mark.parametrize("row", [1, 3001, 5998])
def test_one_changed_row_of_six_thousand_is_noticed(row, run):
    """Where 1,000 rows were compared, it was not."""
    changed = ROWS.copy()
    changed[row, 2] = np.nextafter(changed[row, 2], 10)
    with pytest.raises(ValueError, match="another digest of the data"):
        train(run, changed, ROWS[:40], resume=True)


@pytest.mark.parametrize("others", [ROWS[1:41], None, Examples(ROWS[:40], scale=2.0)])
def test_a_run_is_not_judged_on_other_validation_data(others, run):
    with pytest.raises(ValueError, match="another digest of the validation data"):
        train(run, ROWS, others, resume=True)


def test_the_same_rows_go_on_from_memory_and_from_a_file(run, tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    order = np.arange(6000)
    assert train(run, Examples(mapped, order), ROWS[:40].copy(), resume=True).ended == "finished"


def test_digests_do_not_depend_on_how_rows_are_read(monkeypatch):
    index = np.random.default_rng(1).permutation(6000)
    whole = digest_of_rows([Examples(ROWS, index)]), digest_of_numbers(ROWS)
    monkeypatch.setattr("hvax.data.digest._BYTES", 1000)
    assert (digest_of_rows([Examples(ROWS, index)]), digest_of_numbers(ROWS)) == whole
    assert digest_of_rows([Examples(ROWS[index])]) == whole[0] != digest_of_rows([Examples(ROWS)])


def test_a_digest_of_numbers_is_that_of_their_values():
    counts = np.arange(12).reshape(4, 3)
    same = {digest_of_numbers(counts.astype(kind)) for kind in (np.int64, np.float32, np.float64)}
    assert len(same) == 1
    assert digest_of_numbers(counts.astype(np.uint8)) not in same  # those are gray levels
    assert digest_of_numbers(counts.reshape(4, 3, 1)) not in same
    assert digest_of_numbers(-0.0 * counts) == digest_of_numbers(0 * counts)


def test_a_digest_is_of_the_target_too():
    """Seen to fail by a planted fault."""
    x, target = Examples(ROWS), Examples(ROWS + 1)
    changed = Examples(np.where(np.arange(len(ROWS))[:, None] == 7, 0.0, ROWS + 1))
    assert digest_of_rows((x, target)) != digest_of_rows((x, changed))
