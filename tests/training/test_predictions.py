"""The predictions of a trial that ran all its epochs: of the last weights, and the same after an interruption."""

import numpy as np
import pytest
import torch

from flexres_tune.datasets.images import Split
from flexres_tune.training import Checkpointer, final_predictions, fit
from flexres_tune.training.predictions import PredictionCollector


def predict(config, data, execution, checkpointer=None):
    """(metrics of the last epoch, predictions) of a trial."""
    epochs = fit(config, data, execution, checkpointer)
    metrics = [next(epochs) for _ in range(config.epochs)]
    return metrics[-1], final_predictions(epochs)


def test_collector_ranks_classes_over_batches_as_a_sort_would():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    split = Split(torch.zeros(50, 3, 1, 1), torch.arange(50) % 7, np.arange(50, dtype=np.int32))
    collector = PredictionCollector()
    for batch in (slice(0, 33), slice(33, 50)):
        collector.add(logits[batch], split.labels[batch])
    found = collector.collect(split)
    probabilities, classes = logits.softmax(1).sort(dim=1, descending=True)
    for rank, name in enumerate(("predicted", "second", "third")):
        assert getattr(found, name).tolist() == classes[:, rank].tolist()
        assert getattr(found, f"{name}_probability").tolist() == probabilities[:, rank].half().tolist()
    true = logits.softmax(1)[torch.arange(50), split.labels]
    assert found.true_probability.tolist() == true.half().tolist()
    assert found.images.tolist() == list(range(50)) and found.labels.dtype == np.uint16


def test_equal_logits_are_ranked_as_the_accuracy_ranks_them():
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0]])
    collector = PredictionCollector()
    collector.add(logits, torch.tensor([3]))
    found = collector.collect(Split(torch.zeros(1, 3, 1, 1), torch.tensor([3])))
    assert found.predicted[0] == logits.argmax(1).item()
    assert {*found.predicted, *found.second, *found.third} == {1, 2, 3}


def test_two_classes_have_no_third_and_too_many_are_not_stored():
    collector = PredictionCollector()
    collector.add(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert collector.collect(Split(torch.zeros(1, 3, 1, 1), torch.tensor([0]))).third is None
    wide = PredictionCollector()
    wide.add(torch.arange(70_000.0)[None], torch.tensor([0]))
    assert wide.collect(Split(torch.zeros(1, 3, 1, 1), torch.tensor([0]))) is None


def test_predictions_agree_with_the_accuracies_of_the_last_epoch(make_config, data, execution):
    metrics, predictions = predict(make_config(), data, execution)
    for split, accuracy in (("val", metrics.val_accuracy), ("test", metrics.test_accuracy)):
        found = predictions[split]
        assert np.mean(found.predicted == found.labels) == pytest.approx(accuracy, abs=1e-12)
    assert len(predictions["val"].labels) == len(data.val) and len(predictions["test"].labels) == len(data.test)


@pytest.mark.parametrize("killed_after", [1, 3, 4])
def test_trial_that_is_killed_and_resumed_predicts_the_same_to_the_last_bit(
    make_config, data, execution, tmp_path, killed_after
):
    config = make_config()
    _, whole = predict(config, data, execution)
    interrupted = fit(config, data, execution, Checkpointer(tmp_path / "a.pt"))
    for _ in range(killed_after):
        next(interrupted)
    interrupted.close()
    _, resumed = predict(config, data, execution, Checkpointer(tmp_path / "a.pt"))
    for split in ("val", "test"):
        for name, values in vars(whole[split]).items():
            assert np.array_equal(values, getattr(resumed[split], name)), (split, name)


def test_predictions_need_the_last_epoch(make_config, data, execution):
    epochs = fit(make_config(), data, execution)
    next(epochs)
    with pytest.raises(ValueError, match="last epoch"):
        final_predictions(epochs)
