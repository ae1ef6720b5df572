"""Attack: what a family of attacks does to a folder, and the calls that must survive it.

A family is a function `(chance, place) -> calls`: it changes files in the place, drawn from `chance` alone, and yields
calls. So an attack is repeated from its name, `SEED:FAMILY:NUMBER`.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.factories import make_config

from flexres_tune import cli

CANARY = "canary"  # a file or an event of this name shows that something was executed


@dataclass(frozen=True)
class Place:
    """The folder of one attack, made before it and removed after it; the working directory of its calls."""

    folder: Path

    @property
    def results(self) -> Path:
        """A results folder with three sweeps; see template.py."""
        return self.folder / "results"


@dataclass(frozen=True)
class Call:
    """Something that must survive: it returns, exits, or raises a FlexResError; an AssertionError is a finding."""

    label: str
    run: Callable[[], object]
    argv: tuple[str, ...] = ()  # after `python -m`, if it is a command that can also run as a process


Family = Callable[[random.Random, Place], Iterator[Call]]


def command(name: str, *arguments: object) -> Call:
    """`flexres-tune NAME ARGUMENTS`, by the command's own app."""
    module = cli.COMMANDS[name][0]
    words = tuple(map(str, arguments))
    return Call(
        f"{name} {' '.join(words)}",
        lambda: cli.main(importlib.import_module(module).app, words),
        (module.removesuffix(".__main__"), *words),
    )


TRAINED = make_config(lr=0.1, optimizer="sgd", epochs=4)  # of alpha, with predictions
QUERIES = (
    ("leaderboard",),
    ("trials",),
    ("curves",),
    ("compare", "optimizer"),
    ("compare", "lr", "--by", "optimizer"),
    ("compare", "model"),
    ("equal-cost",),
    ("pareto",),
    ("decisions",),
    ("stops",),
    ("diff", "alpha", "beta"),
    ("classes",),
    ("confusion", TRAINED.config_id),
    ("disagree", TRAINED.config_id, make_config(lr=0.1, optimizer="adam", epochs=4).config_id),
    ("hardest",),
    ("ensemble", "3", "--split", "val"),
    ("effort", "optimizer"),
    ("importance",),
    ("published",),
    ("status",),
    ("SELECT * FROM trials",),
    ("SELECT t.trial_id, count(*) FROM trials t JOIN epochs e USING (trial_id) GROUP BY ALL",),
    ("SELECT * FROM decisions",),
    ("SELECT * FROM predictions",),
    ("SELECT * FROM labels",),
)
FORMATS = ("table", "table", "csv", "json", "markdown", "parquet")


def ask(chance: random.Random, place: Place) -> Call:
    """A query of any kind, in any format."""
    words = list(chance.choice(QUERIES))
    form = chance.choice(FORMATS)
    words += ["--results", str(place.results), "--format", form]
    if form == "parquet":
        words += ["--out", str(place.folder / "answer.parquet")]
    if chance.random() < 0.5:
        words += ["--sweep", chance.choice(["alpha", "alpha", "beta", "gamma"])]
    return command("query", *words)


def write_report(chance: random.Random, place: Place) -> Call:
    """A report of one sweep or of all, or the index."""
    sweep = ["--sweep", chance.choice(["alpha", "beta", "gamma"])]
    options = chance.choices([sweep, ["--index"], []], [8, 1, 1])[0]
    return command("report", "--results", place.results, *options)


def export(chance: random.Random, place: Place) -> Call:
    """An export. Most end before ONNX files are written, which takes seconds: `out` is a file."""
    (place.folder / "out").touch()
    return command("export", "best", "--sweep", "alpha", "--out", place.folder / "out", "--results", place.results)


def read(chance: random.Random, place: Place) -> Call:
    """Any command that reads a results folder."""
    return chance.choices([ask, write_report, export], [20, 2, 1])[0](chance, place)
