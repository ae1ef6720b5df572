import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.results.paths import TABLES, SweepPaths


def test_everything_lies_in_the_sweeps_folder(tmp_path):
    paths = SweepPaths(tmp_path, "optim")
    assert {paths.table(name) for name in TABLES[:3]} == {paths.trials, paths.epochs, paths.decisions}
    assert {paths.table(name).parent for name in TABLES} == {paths.folder}
    inside = [*map(paths.table, TABLES), paths.plan, paths.lock, paths.checkpoints, paths.checkpoint("0123abcd-7")]
    assert len(set(inside)) == len(inside)
    assert all(path.is_relative_to(tmp_path / "optim") for path in inside)


def test_name_that_would_leave_the_folder_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"sweep's name must consist of letters.*'../x' has '/'"):
        SweepPaths(tmp_path, "../x")
    with pytest.raises(ResultsError, match="a trial_id must consist of"):
        SweepPaths(tmp_path, "x").checkpoint("../../etc")
