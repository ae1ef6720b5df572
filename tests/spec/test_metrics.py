"""`metrics` and `metric` of a sweep file."""

import pytest

from flexres_tune.errors import SpecError
from flexres_tune.spec import load_sweep
from flexres_tune.spec.own_code.source import CodeName

CODE = "def f1(logits, labels):\n    return 0.0\n\ndef gain(logits, labels):\n    return 0.0\n\ndef one(logits):\n    return 0.0\n"


@pytest.fixture
def load(tmp_path):
    (tmp_path / "my_metrics.py").write_text(CODE + "\ndef lr(logits, labels):\n    return 0.0\n")

    def load_text(text):
        (tmp_path / "s.yaml").write_text(f"name: x\nbase: {{model: tiny, dataset: digits}}\n{text}\n")
        return load_sweep(str(tmp_path / "s.yaml"))

    return load_text


def test_names_and_own_code_are_listed(load):
    spec = load("metrics: [top5, my_metrics.py:gain]")
    assert spec.metrics == ("top5", "my_metrics.py:gain")
    assert isinstance(spec.metrics[1], CodeName) and spec.metrics[1].load()(None, None) == 0.0
    assert spec.resolved()["metrics"] == ["top5", "my_metrics.py:gain"]


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("top5", "maximize"),
        ("{name: ece}", "minimize"),
        ("gain", "maximize"),
        ("{name: gain, goal: minimize}", "minimize"),
    ],
)
def test_a_listed_metric_may_rank(load, metric, goal):
    metric = metric if metric.startswith("{") else f"{{name: {metric}}}"
    assert load(f"metrics: [top5, ece, my_metrics.py:gain]\nmetric: {metric}").metric.goal == goal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "metrics: [top]",
            "s.yaml:3: metrics[0]: must be top5, f1, balanced_accuracy or ece, or FILE.py:NAME, but got top",
        ),
        ("metrics: [val_loss]", "each sweep has val_accuracy and val_loss"),
        ("metrics: [f1, f1]", "metrics must have distinct names, but f1 and f1 are f1; rename one"),
        ("metrics: [f1, my_metrics.py:f1]", "metrics must have distinct names, but f1 and my_metrics.py:f1 are f1"),
        ("metrics: [my_metrics.py:lr]", "must not have the name of another column of the tables, lr; rename it"),
        ("metrics: [my_metrics.py:one]", "is called with ..., ..., but takes (logits)"),
        ("metrics: [my_metrics.py:none]", "has no none"),
        ("metrics: [no_file.py:gain]", "must name a file, but there is no"),
        ("metrics: top5", "must be a list"),
        (
            "metric: {name: top5}",
            "s.yaml:3: metric.name: must be val_accuracy or val_loss, but got top5; add it to metrics",
        ),
        ("metrics: [f1]\nmetric: {name: ece}", "must be val_accuracy, val_loss or f1, but got ece; add it to metrics"),
        ("metrics: [ece]\nmetric: {name: ece, goal: maximize}", "goal must be minimize for ece, but got maximize"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(load, text, message):
    with pytest.raises(SpecError) as caught:
        load(text)
    assert message in str(caught.value)
