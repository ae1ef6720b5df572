import dataclasses

import pytest
import torch
from torch.nn import functional as F

from flexres_tune.training.epoch import Preprocessing, batch_sizes, evaluate
from flexres_tune.training.state import TrainState


@pytest.mark.parametrize(
    ("num_images", "batch_size", "sizes"),
    [
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 5]),  # an image alone joins the batch before it
        (5, 4, [5]),
        (3, 4, [3]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
    ],
)
def test_batches_hold_all_images_and_none_is_alone(num_images, batch_size, sizes):
    assert batch_sizes(num_images, batch_size) == sizes
    assert sum(sizes) == num_images


def test_targets_are_smoothed_over_all_classes(make_config, data, execution):
    config = make_config(label_smoothing=0.3, mixup_alpha=0, augmentation=[])
    _, targets = Preprocessing(config, data, execution).training(
        data.train.images[:3], torch.tensor([2, 0, 1]), torch.Generator()
    )
    torch.testing.assert_close(targets[0], torch.tensor([0.1, 0.1, 0.8]))
    logits = torch.randn(3, 3)
    expected = F.cross_entropy(logits, torch.tensor([2, 0, 1]), label_smoothing=0.3)
    torch.testing.assert_close(F.cross_entropy(logits, targets), expected)


def test_normalised_training_images_have_mean_0_and_deviation_1(make_config, data, execution):
    images = Preprocessing(make_config(), data, execution).evaluation(data.train.images)
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)


def test_images_stay_between_0_and_1_without_normalisation(make_config, data, execution):
    images = Preprocessing(make_config(normalize=False), data, execution).evaluation(data.train.images)
    torch.testing.assert_close(images, data.train.images.float() / 255)


def test_evaluation_is_the_mean_over_images_and_not_over_batches(make_config, data, execution, monkeypatch):
    state = TrainState(make_config(), data.num_classes, data.image_size, execution)
    preprocessing = Preprocessing(make_config(), data, execution)
    whole = evaluate(state.model, data.val, preprocessing, execution)
    monkeypatch.setattr("flexres_tune.training.epoch.EVALUATION_BATCH_SIZE", 8)  # 21 = 8 + 8 + 5
    parts = evaluate(state.model, data.val, preprocessing, execution)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == whole.accuracy
    logits = state.model.eval()(preprocessing.evaluation(data.val.images))
    assert whole.loss == pytest.approx(F.cross_entropy(logits, data.val.labels).item(), rel=1e-5)


def test_evaluation_changes_no_statistics(make_config, data, execution):
    state = TrainState(make_config(), data.num_classes, data.image_size, execution)
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    evaluate(state.model, data.val, Preprocessing(make_config(), data, execution), execution)
    assert all(torch.equal(before[key], value) for key, value in state.model.state_dict().items())


def test_weights_are_the_same_in_either_memory_format(make_config, data, execution):
    plain = dataclasses.replace(execution, channels_last=False)
    vectors = [
        torch.nn.utils.parameters_to_vector(
            p.contiguous() for p in TrainState(make_config(), 3, 8, e).model.parameters()
        )
        for e in (execution, plain)
    ]
    assert torch.equal(*vectors)
