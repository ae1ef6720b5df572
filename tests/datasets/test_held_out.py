"""Other validation images than the data set's own: by seed, by fold, or another number."""

import numpy as np
import pytest
import torch

from flexres_tune.datasets import load_dataset, load_trial_data
from flexres_tune.datasets.arrays import HeldOut
from flexres_tune.errors import DataError
from flexres_tune.spec import TrialConfig

CPU = torch.device("cpu")


def load(seed=0, **fields):
    return load_trial_data(TrialConfig(model="tiny", dataset="digits", seed=seed, **fields), CPU)


def test_images_keep_their_numbers_whichever_are_held_out():
    fixed, drawn = load(), load(3, val_split="by_seed")
    image = {number: fixed.val.images[i] for i, number in enumerate(fixed.val.numbers)}
    image |= {number: fixed.train.images[i] for i, number in enumerate(fixed.train.numbers)}
    for split in (drawn.val, drawn.train):
        assert all(torch.equal(image[number], split.images[i]) for i, number in enumerate(split.numbers[:100]))
    assert sorted([*drawn.val.numbers, *drawn.train.numbers]) == list(range(len(image)))
    assert drawn.subset == "seed 3" and len(drawn.val) == len(fixed.val)
    pixels = drawn.train.images[:, 0].double() / 255
    assert drawn.mean[0].item() == pytest.approx(pixels.mean().item(), abs=1e-6)


def test_split_by_seed_depends_on_the_seed_alone():
    one, same, other = load(5, val_split="by_seed"), load(5, val_split="by_seed", lr=0.3), load(6, val_split="by_seed")
    assert np.array_equal(one.val.numbers, same.val.numbers)
    assert not np.array_equal(one.val.numbers, other.val.numbers)
    assert load(2**62, val_split="by_seed").subset == f"seed {2**62}"


def test_folds_hold_out_each_image_once_and_the_first_is_the_fixed_split():
    folds = [load(seed, val_split="k_fold") for seed in range(5)]  # 1,497 images, 300 per fold: 4 folds and 297 images
    assert [data.subset for data in folds] == ["fold 0", "fold 1", "fold 2", "fold 3", "fold 0"]
    assert np.array_equal(folds[0].val.numbers, load().val.numbers)
    held_out = np.concatenate([data.val.numbers for data in folds[:4]])
    assert len(set(held_out)) == len(held_out) == 1200


def test_number_of_images_can_be_changed():
    data = load(num_val_images=100)
    assert (len(data.val), len(data.train), data.subset) == (100, 1397, "fixed, 100 images")
    assert np.array_equal(data.val.numbers, load().val.numbers[:100])
    with pytest.raises(DataError, match="num_val_images must leave images to train on, but got 1,497 of the 1,497"):
        load(num_val_images=1497)


def test_only_the_own_split_is_shared_by_trials():
    own = load_dataset("digits", CPU)
    assert load_dataset("digits", CPU, held_out=HeldOut()) is own
    assert load_dataset("digits", CPU, held_out=HeldOut("by_seed")) is not own


def test_final_run_trains_on_the_images_that_the_others_hold_out():
    own, final = load(), load(val_split="none")
    assert (len(final.val), len(final.train), final.subset) == (0, len(own.train) + len(own.val), "none")
    assert sorted(final.train.numbers) == list(range(1497))
    assert torch.equal(final.train.labels, torch.cat([own.train.labels, own.val.labels]))
    assert torch.equal(final.test.images, own.test.images) and torch.equal(final.mean, own.mean)


def test_final_run_of_fewer_training_images_has_those_and_the_held_out_ones():
    own, final = (
        load(num_train_images=50, num_val_images=20),
        load(num_train_images=50, num_val_images=20, val_split="none"),
    )
    assert list(final.train.numbers) == [*own.train.numbers, *own.val.numbers] and len(final.train) == 70
    with pytest.raises(DataError, match="num_train_images must be from 1 to the 1,477"):
        load(num_train_images=1478, num_val_images=20, val_split="none")
