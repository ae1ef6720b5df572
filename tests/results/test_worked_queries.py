"""The ten worked queries of docs/results.md: SQL, pandas and Polars give the same answers."""

import re
from pathlib import Path

import pytest
from helpers.factories import make_config, make_decision, make_epoch, make_predictions, make_trial

from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
QUESTION = re.compile(
    r"^### (\d+\. [^\n]+)\n\n```sql\n(.*?)```\n\n```python\n(.*?)```\n\n```python\n(.*?)```", re.S | re.M
)
QUESTIONS = {title: blocks for title, *blocks in QUESTION.findall(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with results/optim: two optimizers on two seeds, and a trial that was stopped."""
    root = tmp_path_factory.mktemp("queries")
    with SweepWriter(SweepPaths(root / "results", "optim")) as writer:
        for number, (optimizer, seed) in enumerate([("sgd", 0), ("sgd", 1), ("adam", 0), ("adam", 1)]):
            config = make_config(optimizer=optimizer, seed=seed)
            for epoch in (1, 2):
                writer.add_epoch(
                    make_epoch(config.trial_id, epoch, 0.5 + 0.1 * epoch - 0.03 * number, val_loss=1 + number)
                )
            values = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5 + 0.1 * number, 0.25]]
            row, labels = make_predictions(values, [0, 1, 2], config.trial_id)
            writer.add_predictions([row], [labels])
            writer.add_trial(make_trial(config, best=0.9 - 0.02 * number), config)
        stopped = make_config(optimizer="adagrad")
        writer.add_epoch(make_epoch(stopped.trial_id, 1, 0.3))
        writer.add_decision(make_decision(stopped.trial_id))
        writer.add_trial(make_trial(stopped, "stopped", 0.3), stopped)
    return root


def test_there_are_ten():
    assert [title.partition(".")[0] for title in QUESTIONS] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("title", QUESTIONS)
@pytest.mark.parametrize(("library", "name"), [("pandas", "pd"), ("polars", "pl")])
def test_answers_agree(folder, monkeypatch, title, library, name):
    module = pytest.importorskip(library)
    sql, *blocks = QUESTIONS[title]
    monkeypatch.chdir(folder)
    values = {name: module}
    exec(blocks[library == "polars"], values)
    answer = values["answer"]
    rows = answer.to_dict("records") if library == "pandas" else answer.to_dicts()
    expected = open_results("results").sql(sql).to_pylist()
    assert expected and comparable(rows) == comparable(expected)


def comparable(rows):
    """The rows in an order that does not depend on the library, with 9 digits."""
    rounded = [{key: float(f"{v:.9g}") if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    return sorted(
        (
            tuple(sorted((key, str(float(v)) if not isinstance(v, str) else v) for key, v in row.items()))
            for row in rounded
        )
    )
