"""The sections of a report: order, findings, escaped text, and no plot without data."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from helpers.factories import VERSIONS, make_sweep

from flexres_tune.records import TrialStatus
from flexres_tune.report import sections
from flexres_tune.report.data import read_data
from flexres_tune.report.files import try_report, write_report
from flexres_tune.report.sections import PLOTS, all_plots, report_html
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter


@pytest.fixture(scope="module")
def data(hostile_data):
    return hostile_data


@pytest.fixture(scope="module")
def html(data):
    return report_html(data, "results")


@pytest.fixture(scope="module")
def plots(data):
    return all_plots(data)


def headings(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_sections_are_in_order(html):
    of_others = {"Answer", "Further metrics", "Classes"}  # of sweeps with `compare`, `metrics` and predictions
    expected = [name for name in PLOTS if name not in of_others]
    assert headings(html) == [*expected, "Failures", "How to reproduce it"]


def test_question_and_answer_are_above_the_sections(data, html):
    assert html.index("Which rate?") < html.index(data.answer.sentence.split(";")[0]) < html.index("<h2>")


def test_head_has_models_data_set_epochs_and_trials(paths, make_config, make_trial):
    for seed in (0, 1):
        config = make_config(seed=seed, epochs=12)
        with SweepWriter(paths) as writer:
            writer.add_trial(make_trial(config), config)
    html = report_html(read_data(open_results(paths.root), "demo"), "results")
    assert "Ran: tiny on digits, 12 epochs, 2 trials." in html[: html.index("<h2>")]


def test_extent_has_the_epochs_of_completed_trials(data):
    assert data.extent == "small and tiny on digits, 9 epochs, 36 trials"


def test_text_of_the_sweep_is_escaped(html):
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # question, device, error, traceback, YAML
    assert "\\u003cscript" in html or "&lt;script" in html.split('id="page-data">')[1]


@pytest.mark.parametrize("evil", ["\x1b[31m", "\u202e", "\x00", "\u200f", "\u2066", "\ufeff"])
def test_control_and_format_characters_are_spelled_out(paths, make_config, make_trial, evil):
    from flexres_tune.report.files import write_index

    name = f"x{evil}y"
    with SweepWriter(paths) as writer:
        for seed, status in enumerate(["completed", "completed", "completed", "failed", name]):
            config = make_config(seed=seed, lr=0.1 / (1 + seed), dataset="digits")
            texts = dict.fromkeys(("device", "hostname", "git_commit", "precision_used", "profile"), name)
            texts["error"] = None if status == "completed" else f"Traceback\n  {name}\nValueError: {name}"
            versions = replace(VERSIONS, torch=name)
            config_id = f"{config.config_id}{evil}"
            writer.add_trial(make_trial(config, status, versions=versions, config_id=config_id, **texts), config)
    plan = make_plan(make_sweep(), [], name, {})
    write_plan(paths, replace(plan, description=name, profile=name, spec={"name": name, "base": name}))
    results = open_results(paths.root)
    page = report_html(read_data(results, "demo"), name)
    text = page[: page.index("<script")] + page[page.index('id="page-data">') : page.rindex("<script>")]
    page_data = text[text.index('id="page-data">') :].partition(">")[2].partition("</script>")[0]
    for shown in (text, write_index(results).read_text(), *strings_of(json.loads(page_data))):
        assert evil not in shown
    assert evil.encode("unicode_escape").decode() in text


def strings_of(value):
    """Every text in a JSON value."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in strings_of(item)]


def test_page_loads_no_other_file(html):
    class Links(HTMLParser):
        found = ()

        def handle_starttag(self, tag, attributes):
            self.found += tuple(v for k, v in attributes if k in ("src", "href", "srcset", "data", "action"))

    links = Links()
    links.feed(html)
    assert links.found
    assert all(link.startswith("#") for link in links.found)


def test_every_plot_has_a_finding_and_titles_of_its_axes(plots):
    assert len({plot.name for plot in plots}) == len(plots) >= 10
    for plot in plots:
        assert len(plot.finding.split()) > 4, plot.name
        if plot.name == "parallel":
            continue  # the names of its axes are ticks
        assert plot.figure.layout.xaxis.title.text, plot.name
        assert plot.figure.layout.yaxis.title.text, plot.name


@pytest.mark.parametrize("make", PLOTS.values(), ids=PLOTS)
def test_plot_is_left_out_if_the_only_trial_failed(make, paths, make_config, make_trial):
    config = make_config()
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, "failed", best=None, error="boom", device=None), config)
    assert make(read_data(open_results(paths.root), "demo")) == []


def test_sweep_on_two_models_of_gpu_says_so_with_the_precision_on_each(paths, make_config, make_trial):
    with SweepWriter(paths) as writer:
        for seed, (device, precision) in enumerate([("NVIDIA H200", "bf16"), ("NVIDIA H200", "bf16"), ("T4", "fp32")]):
            config = make_config(seed=seed)
            writer.add_trial(make_trial(config, device=device, precision_used=precision), config)
    html = report_html(read_data(open_results(paths.root), "demo"), "results")
    assert "NVIDIA H200: 2 trials in bf16, T4: 1 trial in fp32" in html
    assert "The trials were trained in different precisions" in html


def test_sweep_without_rows_or_plan_has_a_report(paths):
    paths.trials.mkdir(parents=True)
    html = write_report(open_results(paths.root), "demo").read_text()
    assert "none yet" in html
    assert headings(html) == ["How to reproduce it"]


def test_report_of_a_damaged_plan_has_the_leaderboard(fill, paths):
    results = fill()
    paths.plan.write_text("{")
    assert "Leaderboard" in headings(report_html(read_data(results, "demo"), "results"))


def test_resolved_sweep_file_is_the_spec_as_yaml(data):
    from ruamel.yaml import YAML

    from flexres_tune.report.facts import resolved_yaml

    assert YAML(typ="safe").load(resolved_yaml(data)) == data.plan.spec


def test_report_shows_trials_of_every_status(paths, make_config, make_trial):
    with SweepWriter(paths) as writer:
        for seed, status in enumerate(TrialStatus):
            config = make_config(seed=seed)
            writer.add_trial(make_trial(config, status), config)
    plots = all_plots(read_data(open_results(paths.root), "demo"))
    (timeline,) = [plot for plot in plots if plot.name == "timeline"]
    assert {trace.name for trace in timeline.figure.data} == {f"{s.replace('_', ' ')} (1)" for s in TrialStatus}


def test_stopped_trials_are_counted_and_not_ranked(plots):
    (effect,) = [plot for plot in plots if plot.name == "effect-lr"]
    assert any("10 trials stopped early" in note for note in effect.notes)
    (ranking,) = [plot for plot in plots if plot.name == "ranking"]
    assert not any("lr=0.001" in a.text for a in ranking.figure.layout.annotations)


def test_best_group_without_a_common_value_is_one_subject(paths, make_config, make_trial):
    with SweepWriter(paths) as writer:
        for seed in range(6):
            config = make_config(seed=seed, lr=0.1 + seed, weight_decay=0.1 * (seed % 2))
            writer.add_trial(make_trial(config, best=0.5 + 0.01 * seed), config)
    plots = {plot.name: plot for plot in all_plots(read_data(open_results(paths.root), "demo"))}
    assert plots["parallel"].finding == "The best half of the completed trials has no parameter value in common"


def test_many_trials_are_thinned_and_a_note_reports_it(fill):
    data = read_data(fill(num_trials=500), "demo")
    (curves,) = sections.plot_curves(data)
    assert any("are left out" in note for note in curves.notes)
    assert sum(len(trace.x) for trace in curves.figure.data) < 8000


def test_report_that_fails_does_not_fail_the_run(fill, paths, monkeypatch):
    fill()
    monkeypatch.setattr("flexres_tune.report.files.report_html", lambda *a: 1 / 0)
    line = try_report(paths)
    assert line.startswith("warning: no report: ZeroDivisionError")
    assert "python -m flexres_tune.report --sweep demo" in line


def test_report_that_fails_leaves_the_old_file(fill, paths, monkeypatch):
    results = fill()
    write_report(results, "demo")
    before = paths.report.read_bytes()
    monkeypatch.setattr("flexres_tune.report.files.report_html", lambda *a: "\ud800")  # cannot be encoded
    assert try_report(paths).startswith("warning")
    assert paths.report.read_bytes() == before
    assert [path.name for path in paths.folder.glob("*report*")] == ["report.html"]
