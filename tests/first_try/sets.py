"""Every data set of the bench: its file, what is typed behind the file's name, and where from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.first_try import drawn, packaged
from tests.first_try.packaged import bundled, shipped

DATA = Path("build/first-try/data")
SYNTHETIC = 20


@dataclass(frozen=True)
class DataSet:
    """One table: `file` is made by `make(path)` where it is not there.

    `options` are what a person types behind the file's name, as (flag, value): labels, or which
    array of a .npz file. `messy` files hold text, dates or missing cells, as people have them: the
    program may refuse those before training, in one line that says what to do.
    """

    name: str
    make: Callable[[Path], None]
    options: tuple[tuple[str, str], ...] = ()
    suffix: str = "csv"
    messy: bool = False

    @property
    def file(self) -> Path:
        return DATA / f"{self.name}.{self.suffix}"

    def option(self, flag: str) -> str | None:
        return dict(self.options).get(flag)

    def written(self) -> Path:
        """The file, made where it is not there."""
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.make(self.file)
        return self.file


def _of_scikit_learn() -> list[DataSet]:
    names = ("iris", "wine", "breast_cancer", "diabetes", "digits")
    sets = [DataSet(name, partial(bundled, name)) for name in names]
    sets += [
        DataSet(f"{name}-labels", partial(bundled, name, target=True), (("labels", "target"),))
        for name in names
    ]
    sets.append(DataSet("linnerud", partial(bundled, "linnerud")))
    sets.append(DataSet("iris-target-left-in", packaged.target_left_in))
    array = (("array", "patches"), ("labels", "photo"))
    sets.append(DataSet("photo-patches", packaged.patches, array, suffix="npz"))
    return sets


def _of_packages() -> list[DataSet]:
    penguins = partial(shipped, "palmerpenguins", "data/penguins.csv")
    measured = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    weather = partial(shipped, "vega_datasets", "_data/seattle-weather.csv")
    jobs = partial(shipped, "vega_datasets", "_data/us-employment.csv", whole=True)
    numbers = ("precipitation", "temp_max", "temp_min", "wind")
    label = (("labels", "species"),)
    sets = [
        DataSet("penguins", partial(penguins, columns=measured)),
        DataSet("penguins-whole", partial(penguins, whole=True), messy=True),
        DataSet("penguins-whole-labels", partial(penguins, whole=True), label, messy=True),
        DataSet("pbmc-counts", packaged.pbmc, (("labels", "cell_type"),)),
        DataSet("seattle-weather", partial(weather, columns=numbers)),
        DataSet("seattle-weather-whole", partial(weather, whole=True), messy=True),
        DataSet("us-employment-whole", jobs, messy=True),
        DataSet("cars", packaged.cars),
    ]
    names = ("randhie", "fair", "star98", "macrodata", "engel", "elnino", "longley", "ccard")
    for name in (*names, "sunspots", "heart"):
        path = f"datasets/{name}/{name}.csv"
        sets.append(DataSet(name, partial(shipped, "statsmodels", path)))
    return sets


def _drawn() -> list[DataSet]:
    sets = [
        DataSet("units", drawn.units),
        DataSet("constants", drawn.constants),
        DataSet("twenty-rows", drawn.twenty_rows),
        DataSet("cauchy", drawn.cauchy),
        DataSet("log-normal", drawn.log_normal),
        DataSet("poisson-100", drawn.poisson, suffix="npy"),
        DataSet("negative-binomial", drawn.negative_binomial),
        DataSet("bits", drawn.bits),
        DataSet("curves", drawn.curves, suffix="npz"),
    ]
    at_random = (partial(drawn.at_random, seed) for seed in range(SYNTHETIC))
    return sets + [DataSet(f"random-{i:02}", make) for i, make in enumerate(at_random)]


SETS = {data.name: data for data in (*_of_scikit_learn(), *_of_packages(), *_drawn())}
