"""A project, its runs, or its data alone may move."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hvax.cli import main
from hvax.commands.directory import open_run
from hvax.commands.inputs import run_data
from hvax.commands.places import relative_paths, resolve_paths
from hvax.config import InsideFile, OwnData
from runs_for_tests import FEW, ON_OWN_DATA, SMALL, edit, on_run, read_json, untrained

X = np.random.default_rng(0).normal(size=(60, 8, 8))


@pytest.fixture
def project(here, monkeypatch):
    """project/data/x.npy and a run of it, project/runs/one."""
    for folder in ("project/data", "project/runs"):
        (here / folder).mkdir(parents=True)
    np.save("project/data/x.npy", X)
    monkeypatch.chdir("project")
    untrained(f"data/x.npy {SMALL}", folder=Path("runs/one"))
    monkeypatch.chdir(here)
    return here / "project"


def opens(run, **own):
    """Whether the run's test part is found, of the numbers that it was trained on."""
    data = run_data(open_run(Path(run)), None, InsideFile(), OwnData(**own))
    np.testing.assert_array_equal(data.examples[:], X[data.rows])


def test_a_moved_project_goes_on(project, ran):
    project.rename("elsewhere")
    opens("elsewhere/runs/one")
    ran("encode elsewhere/runs/one --no-progress --out z.npz")


def trains(arguments):
    assert main(f"train {arguments} --no-report --no-progress".split()) == 0


def test_a_moved_project_is_resumed_and_warm_started(here, monkeypatch, capsys):
    quick = f"{SMALL} --epochs 1 --num-samples 5 --patience 0"
    (here / "project").mkdir()
    monkeypatch.chdir("project")
    np.save("x.npy", X)
    untrained(f"x.npy {SMALL}", folder=Path("first"))
    trains(f"x.npy {quick} --run-dir second --warm-start first")
    monkeypatch.chdir(here)
    Path("project").rename("elsewhere")
    trains("elsewhere/x.npy --run-dir elsewhere/second --resume --epochs 2")
    options = read_json("elsewhere/second/config.json")["options"]
    assert options["source"] == str(here / "elsewhere/x.npy")
    assert options["train"]["warm_start"] == str(here / "elsewhere/first")
    # And where the data alone have moved.
    Path("elsewhere/x.npy").rename("y.npy")
    trains("y.npy --run-dir elsewhere/second --resume --epochs 3")
    np.save("other.npy", X + 1)
    capsys.readouterr()
    assert main(["train", "other.npy", "--run-dir", "elsewhere/second", "--resume"]) == 2
    assert re.search("another value of the source: .*y.npy there", capsys.readouterr().err)


def test_a_moved_run_finds_its_data_where_they_were(project, here):
    (project / "runs/one").rename(here / "alone")
    opens("alone")


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_moved_data_are_said_to_be_missing(command, project, refused):
    (project / "data").rename("store")
    arguments = on_run(command, "project/runs/one")
    refused(arguments, r"the data of project/runs/one are not at .*data/x.npy\. Say with --source")


def test_moved_data_are_found_by_source(project, ran):
    (project / "data").rename("store")
    opens("project/runs/one", source="store/x.npy")
    shutil.copytree("project/runs/one", "two")
    ran(f"compare project/runs/one two {FEW} --source store/x.npy")


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_every_command_takes_source(command, project, refused):
    np.save("other.npy", X + 1)
    arguments = on_run(command, "project/runs/one")
    refused(f"{arguments} --source other.npy", "other.npy does not hold the numbers")


def test_source_is_checked(project, refused):
    np.save("other.npy", X + 1)
    run = "encode project/runs/one --no-progress"
    refused(f"{run} --source other.npy", "other.npy does not hold the numbers")
    refused(f"{run} --source none.npy", "are not at none.npy")
    refused(f"{run} --source digits", "must be where the data of .* are now, .* got digits")
    refused("encode run --no-progress --source other.npy", "which are digits, got other.npy")
    refused(f"{run} other.npy --source project/data/x.npy", "give one of them")


def test_the_baseline_of_a_moved_project(project):
    shutil.copytree("project/runs/one/model", "project/runs/one/baseline/model")
    project.rename("elsewhere")
    opens("elsewhere/runs/one/baseline")


def test_paths_through_links(project, here):
    """A link to a run leads to the data beside the run."""
    (here / "link").symlink_to("elsewhere/runs/one")
    project.rename("elsewhere")
    opens("link")


def test_what_is_written_down(tmp_path):
    options = {
        "source": "digits",
        "data": {"data_dir": str(tmp_path / "data")},
        "train": {"warm_start": None},
    }
    relative = relative_paths(options, tmp_path / "runs/one")
    assert relative == {"data_dir": "../../data"}
    elsewhere = tmp_path / "else"
    for folder in ("data", "runs/one"):
        (elsewhere / folder).mkdir(parents=True)
    assert resolve_paths(options, relative, tmp_path / "runs/one") == options  # nothing is there
    moved = resolve_paths(options, relative, elsewhere / "runs/one")
    assert moved == options | {"data": {"data_dir": str(elsewhere / "data")}}


@pytest.mark.parametrize("places", [5, ["source"], {"source": 3}])
def test_damaged_paths_are_told(places, project, refused):
    edit(relative_paths=places)(project / "runs/one")
    words = "config.json is damaged: '?relative_paths'? must"
    refused("encode project/runs/one --no-progress", words)


def test_paths_are_relative_to_the_run_itself_not_to_a_link(tmp_path):
    """Seen to fail by a planted fault: a run may be written to through a link."""
    (tmp_path / "far" / "away" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away/run")
    options = {
        "source": str(tmp_path / "x.csv"),
        "data": {"data_dir": str(tmp_path)},
        "train": {"warm_start": None},
    }
    found = relative_paths(options, tmp_path / "link")
    assert found["source"] == "../../../x.csv"
