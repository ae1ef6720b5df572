"""Text of a report: key facts, failures with their tracebacks, and how to reproduce the sweep."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from dataclasses import asdict

import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import comparison_problems
from flexres_tune.analysis.status import FAILURES
from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, Trial
from flexres_tune.text import escape_html, format_duration, last_line, plural

_MOST_FAILURES = 100
_MOST_CHARACTERS = 20_000  # of a traceback, from its end, which names the exception


def facts_html(data: ReportData) -> str:
    """Number of trials per status, device time, device, data set, date and profile."""
    counts = Counter(trial.status for trial in data.trials)
    num_planned = data.plan.num_trials if data.plan else 0
    planned = f" of {num_planned:,} planned" if num_planned > len(data.trials) else ""
    ended = ", ".join(f"{counts[s]:,} {s.replace('_', ' ')}" for s in TrialStatus if counts[s])
    facts = [("trials", f"{len(data.trials):,}{planned} ({ended})" if data.trials else f"none yet{planned}")]
    if data.trials:
        devices = Counter((trial.device, trial.precision_used) for trial in data.trials if trial.device)
        several = [
            f"{device}: {plural(count, 'trial')} in {used or 'no known precision'}"
            for (device, used), count in devices.items()
        ]
        precisions = Counter(trial.precision_used for trial in data.trials if trial.precision_used)
        counted = [f"{name} ({plural(count, 'trial')})" for name, count in sorted(precisions.items())]
        facts += [
            ("device time", format_duration(3600 * data.device_hours)),
            ("device", ", ".join(several if len(devices) > 1 else (device for device, _ in devices)) or "unknown"),
            ("precision", ", ".join(counted if len(counted) > 1 else precisions) or "unknown"),
            ("data", data.board.dataset or "unknown"),
            *_image_facts(data),
            ("last trial ended", f"{data.trials[-1].finished_at:%Y-%m-%d %H:%M} UTC"),
        ]
    if data.plan and data.plan.profile != "none":
        facts.append(("profile", data.plan.profile))
    if data.is_running:
        facts.append(("state", "running"))
    items = "".join(f"<div><dt>{name}</dt><dd>{escape_html(value)}</dd></div>" for name, value in facts)
    notes = [
        f"{plural(count, 'trial')} of this sweep ran on {name}; results on other images are not compared, so they are "
        "left out."
        for name, count in data.others.items()
    ]
    notes += [f"{problem[0].upper()}{problem[1:]}." for problem in comparison_problems(data.board)]
    return f"<dl class=facts>{items}</dl>" + "".join(f"<p class=note>{escape_html(note)}</p>" for note in notes)


def _image_facts(data: ReportData) -> list[tuple[str, str]]:
    """How many images trials are trained on, if a trial says so, and how many they are validated and tested on."""
    facts = []
    numbers = sorted({trial.num_train_images for trial in data.trials if trial.num_train_images is not None})
    if numbers and all(trial.num_train_images is not None for trial in data.trials):
        several = numbers if len(numbers) <= 4 else (numbers[0], "...", numbers[-1])
        facts.append(("training images", ", ".join(f"{n:,}" if isinstance(n, int) else n for n in several)))
    labels = data.results.table("labels", data.sweep, ["dataset", "split", "label"])
    for split, name in (("val", "validation images"), ("test", "test images")):
        rows = labels.filter(pc.and_(pc.equal(labels["dataset"], data.board.dataset), pc.equal(labels["split"], split)))
        if rows.num_rows:
            facts.append((name, f"{max(pc.list_value_length(rows['label']).to_pylist()):,}"))
    return facts


def failures_html(data: ReportData) -> str:
    """Failed trials grouped by error, each with its traceback collapsed; "" if no trial failed."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in data.trials:
        if trial.status in FAILURES:
            groups.setdefault((trial.status, trial.error or ""), []).append(trial)
    if not groups:
        return ""
    items = []
    for (status, error), trials in list(groups.items())[:_MOST_FAILURES]:
        names = [f"{trial.trial_id} ({data.label(trial.config_id)}, seed {trial.seed})" for trial in trials[:20]]
        if len(trials) > 20:
            names.append(f"and {len(trials) - 20:,} more")
        listed = "".join(f"<li>{escape_html(name)}</li>" for name in names)
        items.append(
            f"<details><summary><b>{escape_html(status.replace('_', ' '))}</b> × {len(trials)}: "
            f"{escape_html(last_line(error)[:600])}</summary><ul>{listed}</ul>"
            f"{_pre(error[-_MOST_CHARACTERS:])}</details>"
        )
    left_out = len(groups) - len(items)
    more = f"<p class=note>{left_out:,} more kinds of failure; `query status` lists them.</p>" if left_out > 0 else ""
    count = sum(map(len, groups.values()))
    return f"<p>{plural(count, 'trial')} failed, with {plural(len(groups), 'error')}.</p>{''.join(items)}{more}"


def reproduce_html(data: ReportData, root: str) -> str:
    """The command, the resolved sweep file, versions and commits."""
    parts = []
    if data.plan:
        parts.append("<p>Run the sweep again (only missing trials run):</p>" + _pre(data.plan.command))
    query = ["python", "-m", "flexres_tune.query", "leaderboard", "--sweep", data.sweep, "--results", root]
    parts.append("<p>Query its tables:</p>" + _pre(shlex.join(query)))
    if data.plan:
        parts.append(
            f"<p>The sweep as it ran, with profile <b>{escape_html(data.plan.profile)}</b> and overrides applied; "
            f"order of trials shuffled by seed {data.plan.order_seed}:</p>"
            f"<details><summary>resolved sweep file</summary>{_pre(resolved_yaml(data))}</details>"
        )
    rows = provenance(data)
    if rows:
        cells = "".join(f"<tr><td>{escape_html(name)}</td><td>{escape_html(text)}</td></tr>" for name, text in rows)
        parts.append(f"<div class=scroll><table class=plain>{cells}</table></div>")
    return "".join(parts)


def resolved_yaml(data: ReportData) -> str:
    """The spec in plan.json as a sweep file that `run` accepts."""
    from ruamel.yaml import YAML

    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = None  # innermost lists and mappings in one line
    yaml.width = 110
    yaml.dump(data.plan.spec, text)
    return text.getvalue()


def provenance(data: ReportData) -> list[tuple[str, str]]:
    """(name, text) of each version, the commits and the machines; the versions of the plan if no trial has any."""
    versions = [trial.versions for trial in data.trials if trial.versions]
    if not versions and data.plan:
        versions = [asdict(data.plan.versions)]
    names = dict.fromkeys(name for each in versions for name in each)
    rows = [(name, ", ".join(sorted({each.get(name) or "" for each in versions} - {""}))) for name in names]
    commits = Counter(trial.git_commit for trial in data.trials if trial.git_commit)
    if commits:
        rows.append(("commit", ", ".join(f"{commit} ({plural(n, 'trial')})" for commit, n in commits.most_common(5))))
    hosts = sorted({f"{trial.hostname}: {trial.device}" for trial in data.trials if trial.hostname and trial.device})
    if hosts:
        rows.append(("machines", "; ".join(hosts[:20]) + ("; ..." if len(hosts) > 20 else "")))
    return [(name, text) for name, text in rows if text]


def _pre(text: str) -> str:
    return f"<pre>{escape_html(text, keep=chr(10) + chr(9))}</pre>"
