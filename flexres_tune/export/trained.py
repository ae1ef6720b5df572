"""Trained trials that have their weights: the best one of a sweep, or any; imports no torch."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from flexres_tune.analysis.final import final_run
from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.analysis.ranked_trials import trials_with_metric
from flexres_tune.errors import Problem, ResultsError
from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.spec import Architecture, TrialConfig
from flexres_tune.spec.document.document import format_path
from flexres_tune.spec.own_code.model import OwnModel
from flexres_tune.spec.own_code.references import find_references, read_references
from flexres_tune.spec.own_code.source import CodeError, Source
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.trial import OWN_CODE_FIELDS, TRIAL_FIELDS
from flexres_tune.spec.trial_values import build_config
from flexres_tune.storage import AnyPath, parse_json
from flexres_tune.text import did_you_mean, excerpt


@dataclass(frozen=True)
class TrainedTrial:
    """A completed trial, and the path of its weights."""

    row: Mapping[str, Any]  # of `trials`
    config: TrialConfig
    checkpoint: AnyPath


def best_rows(results: Results, sweep: str) -> list[Mapping[str, Any]]:
    """Completed trials of the leaderboard's first configuration (confirmed before screened).

    Its final run comes first if there is one, then the best seed.

    Raises:
        ResultsError: no configuration has run to its end.
    """
    boards = leaderboards(results, sweep)
    leader = next((row for board in boards for row in board.ranked), None)
    if leader is None:
        raise ResultsError(f"{sweep}: a configuration must have run to its end to be exported, but none has")
    board = next(board for board in boards if board.ranked)
    metric = board.metric
    rows = [
        row
        for row in trials_with_metric(results, sweep, metric).to_pylist()
        if (row["config_id"], row["stage"]) == (leader.config_id, leader.stage)
        and row["status"] == TrialStatus.COMPLETED
    ]
    rows.sort(key=lambda row: (-math.inf if row["metric"] is None else metric.score(row["metric"]), -row["seed"]))
    final = final_run(results, board)
    return [*([final.row] if final else []), *rows[::-1]]


def find_best(results: Results, sweep: str) -> TrainedTrial:
    """The final run of the leaderboard's first configuration, or its best seed that has its weights.

    Raises:
        ResultsError: no configuration has run to its end, or its weights are missing; the message has the command
            that trains them.
    """
    rows = best_rows(results, sweep)
    for row in rows:
        for name in (sweep, row.get("reused_from")):
            if name and (path := SweepPaths(results.root, name).checkpoint(row["trial_id"])).exists():
                return TrainedTrial(row, config_of(row), path)
    path = SweepPaths(results.root, sweep).checkpoint(rows[0]["trial_id"])
    raise ResultsError(
        f"{sweep}: the weights of the best configuration, {rows[0]['config_id']}, must be in {path.parent}, but are "
        f"missing. This command trains them:\n{train_command(config_of(rows[0]), path)}"
    )


def find_trial(results: Results, trial_id: str, sweep: str | None = None) -> TrainedTrial:
    """A completed trial by its trial_id, in one sweep or in any of the folder.

    Raises:
        ResultsError: no such trial, it did not run to its end, or its weights are missing.
    """
    trials = results.trials(sweep)
    rows = trials.filter(pc.equal(trials["trial_id"], trial_id)).to_pylist()
    if not rows:
        known = did_you_mean(trial_id, trials["trial_id"].unique().to_pylist())
        raise ResultsError(
            f"no trial {excerpt(trial_id)} in {results.root / sweep if sweep else results.root}{known}; "
            "query sql 'SELECT trial_id FROM trials'"
        )
    rows = [row for row in rows if row["status"] == TrialStatus.COMPLETED]
    if not rows:
        raise ResultsError(
            f"trial {trial_id} must have run to its end to be exported, but has not; run its sweep again"
        )
    for row in rows:
        for name in (row["sweep"], row.get("reused_from")):
            if name and (path := SweepPaths(results.root, name).checkpoint(trial_id)).exists():
                return TrainedTrial(row, config_of(row), path)
    path = SweepPaths(results.root, rows[0]["sweep"]).checkpoint(trial_id)
    raise ResultsError(
        f"the weights of trial {trial_id} must be {path}, but are missing: only those of the best configurations are "
        f"kept. This command trains them:\n{train_command(config_of(rows[0]), path)}"
    )


def read_code(found: TrainedTrial, folder: str | Path | None, caller: str, option: str) -> TrainedTrial:
    """The trial with the source of its own code, which its caller will execute; a trial without such code as it is.

    Args:
        folder: that of the sweep file, to which the files are relative: whoever names it trusts them.
        caller, option: what executes the code, and how it is given the folder, for the message.

    Raises:
        ResultsError: no folder is given, or a source differs from the one that the trial was trained with.
        CodeError: a source cannot be read.
    """
    config = found.config
    if not config.code:
        return found
    if folder is None:
        raise ResultsError(
            f"trial {config.trial_id} has code of its own, {', '.join(config.code)}, which {caller} executes; if you "
            f"trust it, give the folder of its sweep file {option}"
        )
    fields = {key: config.model.name if key == "model" else getattr(config, key) for key in OWN_CODE_FIELDS}
    code, findings = read_references(find_references({"base": fields}), Path(folder), allow_any=True)
    if findings:
        raise CodeError(findings[0][1])
    for name, source in config.code.items():
        if name not in code or code[name].digest != source.digest:
            raise ResultsError(
                f"{name}: must be the code that trial {config.trial_id} was trained with (digest {source.digest}), but "
                f"was changed since (digest {code[name].digest if name in code else 'none'}); restore that version"
            )
    values = config.to_dict() | {"code": {name: code[name].model_dump(mode="json") for name in config.code}}
    return replace(found, config=TrialConfig.model_validate(values))


def config_of(row: Mapping[str, Any]) -> TrialConfig:
    """The configuration in the columns of a row of `trials`.

    Raises:
        ResultsError: the columns are not a configuration, or do not give the row's trial_id.
    """
    values = {name: row[name] for name in TRIAL_FIELDS if name not in ("model", "seed")}
    try:
        code, own_values = (parse_json(row.get(name) or "{}") for name in ("code", "own_values"))
        code = {name: Source(target=name, digest=digest) for name, digest in code.items()}
        values |= {key: value for key, value in own_values.items() if key.startswith(("model.", "optimizer."))}
    except (ValueError, AttributeError) as error:
        raise ResultsError(
            f"trial {excerpt(row['trial_id'])}: its columns code and own_values must be JSON objects: {excerpt(error)}"
        ) from None
    model = row["model"] if row["model"] in code else {name: row[name] for name in Architecture.model_fields}
    config, findings = build_config({**values, "model": model}, row["seed"], code)
    if config is None:
        problems = "; ".join(str(Problem(format_path(path), message)) for path, message in findings)
        raise ResultsError(
            f"trial {excerpt(row['trial_id'])}: its columns must be a configuration that this version can train, but "
            f"were changed, or written by another version: {problems}"
        )
    if config.trial_id != row["trial_id"]:
        raise ResultsError(
            f"trial {row['trial_id']}: its columns must give its own id, but give {config.trial_id}: they were "
            "changed, or written by a version with other fields"
        )
    return config


def train_command(config: TrialConfig, checkpoint: AnyPath) -> str:
    """The command that trains this trial again, without Ray, and saves its weights at `checkpoint`."""
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"code", "optimizer_values"})
    model = values.pop("model")
    is_named = config.model.name in PRESETS or isinstance(config.model, OwnModel)
    values = {"model": config.model.name} | values if is_named else model | values
    words = ["python", "-m", "flexres_tune.train"]
    for name, value in config.own_values.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    for name, value in values.items():
        words += ["--" + name.replace("_", "-"), _text(value)]
    return shlex.join([*words, "--checkpoint", str(checkpoint)])


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(map(_text, value)) if len(value) != 1 and value else json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value)
