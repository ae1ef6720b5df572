"""Further metrics: their values against scikit-learn's or worked by hand, and their place in an epoch."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, top_k_accuracy_score

from flexres_tune.spec.metrics import METRIC_TRAITS
from flexres_tune.spec.own_code.source import CodeError, CodeName, read_source
from flexres_tune.training import fit
from flexres_tune.training.contracts import check_contract, guess_field
from flexres_tune.training.loop import Request
from flexres_tune.training.metrics import METRICS, MetricCollector


def draw(num_images, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_images, num_classes, generator=generator)
    return logits, torch.randint(0, num_classes, (num_images,), generator=generator)


def test_each_metric_has_a_function_and_traits():
    assert METRICS.keys() == METRIC_TRAITS.keys()


@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 99))
def test_values_are_those_of_scikit_learn(num_images, num_classes, seed):
    logits, labels = draw(num_images, num_classes, seed)
    predicted = logits.argmax(1)
    found = sorted({*labels.tolist(), *predicted.tolist()})
    expected = {
        "f1": f1_score(labels, predicted, labels=found, average="macro", zero_division=0),
        "top5": top_k_accuracy_score(labels, logits, k=5, labels=range(num_classes)) if num_classes > 5 else 1.0,
    }
    present = sorted(set(labels.tolist()))
    if len(present) > 1:
        with pytest.warns(UserWarning) if set(found) != set(present) else torch.no_grad():
            expected["balanced_accuracy"] = balanced_accuracy_score(labels, predicted)
    for name, value in expected.items():
        assert float(METRICS[name](logits, labels)) == pytest.approx(value), name


def test_calibration_error_is_worked_by_hand():
    # confidences 0.9 (right), 0.9 (wrong), 0.6 (right), of two classes
    confidence = torch.tensor([0.9, 0.9, 0.6])
    logits = torch.stack([confidence.log(), (1 - confidence).log()], 1)
    expected = 2 / 3 * abs(0.5 - 0.9) + 1 / 3 * abs(1 - 0.6)
    assert float(METRICS["ece"](logits, torch.tensor([0, 1, 0]))) == pytest.approx(expected, abs=1e-6)


def test_a_perfect_model_has_perfect_values():
    labels = torch.arange(10)
    logits = torch.nn.functional.one_hot(labels, 10) * 100.0
    values = {name: float(metric(logits, labels)) for name, metric in METRICS.items()}
    assert values == {"top5": 1.0, "f1": 1.0, "balanced_accuracy": 1.0, "ece": pytest.approx(0.0, abs=1e-6)}


def own_code(tmp_path, body):
    (tmp_path / "my_metrics.py").write_text(f"import torch\n\ndef metric(logits, labels):\n    {body}\n")
    source = read_source("my_metrics.py:metric", "metrics", tmp_path, allow_any=False)
    return CodeName("my_metrics.py:metric", source)


def test_an_epoch_has_the_values_and_trains_as_without_them(tmp_path, make_config, data, execution):
    own = own_code(tmp_path, "return (logits.argmax(1) == labels).double().mean()")
    plain = list(fit(make_config(epochs=2), data, execution))
    measured = list(fit(make_config(epochs=2), data, execution, request=Request(metrics=("f1", own))))
    for with_values, without in zip(measured, plain, strict=True):
        assert (with_values.val_loss, with_values.train_loss) == (without.val_loss, without.train_loss)
        assert without.metrics is None
        assert json.loads(with_values.metrics).keys() == {"f1", "metric"}
        assert with_values.value("metric") == pytest.approx(with_values.val_accuracy)


def test_a_value_that_is_not_finite_is_left_out(tmp_path):
    collector = MetricCollector(("f1", own_code(tmp_path, "return float('nan')")))
    for part in draw(20, 3, 0)[0].split(7):
        collector.add(part)
    assert collector.compute(draw(20, 3, 0)[1]).keys() == {"f1"}


def test_code_that_fails_is_named_with_its_line(tmp_path):
    collector = MetricCollector((own_code(tmp_path, "return labels / 'x'"),))
    collector.add(draw(20, 3, 0)[0])
    with pytest.raises(CodeError, match=r"my_metrics.py:metric must give one number, but raised TypeError.*line 4"):
        collector.compute(draw(20, 3, 0)[1])


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return (logits.argmax(1) == labels).double().mean()", None),
        ("return logits.softmax(1)", "returns a Tensor, which is no number"),
        ("return float('inf')", "is inf"),
        ("return float(torch.rand(()))", "a second call gives another number"),
        ("return float(logits.add_(1).mean())", "its input was modified"),
        ("return float(logits[0, 0])", "in another order"),
        ("return 1 / float(labels.max())", "ZeroDivisionError"),
    ],
)
def test_the_contract_finds_what_is_wrong(tmp_path, body, problem):
    code = own_code(tmp_path, body)
    assert guess_field(code) == "metrics"
    problems = [check.problem for check in check_contract("metrics", code, {}) if check.problem]
    assert not problems if problem is None else any(problem in each for each in problems)
