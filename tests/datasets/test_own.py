"""A data set that the user's own code loads."""

import numpy as np
import pytest
import torch

from flexres_tune.datasets import describe_dataset, load_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.spec.own_code.source import CodeName, read_source

CODE = """
import numpy as np

def load():
    labels = np.arange(60) % 3
    images = np.zeros((60, 8, 8), np.uint8)
    images[np.arange(60), labels] = 255
    return {"train_images": images[:40], "train_labels": labels[:40],
            "test_images": images[40:], "test_labels": labels[40:], **MORE}
"""


def make(folder, more="{}", name="my_data"):
    (folder / f"{name}.py").write_text(CODE.replace("**MORE", f"**{more}"))
    reference = f"{name}.py:load"
    return CodeName(reference, read_source(reference, "dataset", folder, allow_any=False))


def test_grey_images_are_split_and_brought_to_rgb(tmp_path):
    name = make(tmp_path, "{'class_names': ['a', 'b', 'c']}")
    shape = describe_dataset(name)
    assert (shape.image_size, shape.num_classes, shape.num_train, shape.num_val, shape.num_test) == (8, 3, 36, 4, 20)
    data = load_dataset(name, torch.device("cpu"))
    assert data.train.images.shape == (36, 3, 8, 8) and data.class_names == ("a", "b", "c")
    rows = data.test.images[:, 0, :, 0].argmax(1)
    assert torch.equal(rows, data.test.labels)


def test_validation_images_of_the_code_are_used(tmp_path):
    name = make(tmp_path, "{'val_images': images[:5], 'val_labels': labels[:5]}", "with_val")
    data = load_dataset(name, torch.device("cpu"))
    assert (len(data.train), len(data.val), len(data.test)) == (40, 5, 20)
    assert data.val.labels.tolist() == [0, 1, 2, 0, 1]


def test_edited_code_is_loaded_again(tmp_path):
    first = load_dataset(make(tmp_path, "{}", "edited"), torch.device("cpu"))
    second = load_dataset(make(tmp_path, "{'test_images': images[:2], 'test_labels': labels[:2]}", "edited"), "cpu")
    assert (len(first.test), len(second.test)) == (20, 2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("{'test_labels': labels[:3]}", "test_labels must be one whole number per image"),
        ("{'train_images': images / 255}", "train_images must be uint8 of shape"),
        ("{'train_images': images[:40, :4]}", "must be square and of one size, but are 8x4"),
        ("{'train_labels': labels[:40] - 1}", "must be from 0 to K-1, but are -1"),
        ("{'class_names': ['a', 'b']}", "must be from 0 to K-1, but are 0 to 2 with 2 classes"),
        ("{'images': images}", "must return test_images, test_labels"),
        ("np.nothing", "raised AttributeError"),
    ],
)
def test_wrong_result_is_refused(tmp_path, more, message):
    name = f"wrong_{abs(hash(more))}"
    with pytest.raises(FlexResError, match=message):
        describe_dataset(make(tmp_path, more, name))


def test_images_that_numpy_makes_are_not_changed(tmp_path):
    data = load_dataset(make(tmp_path, name="unchanged"), torch.device("cpu"))
    assert data.train.images.numpy().dtype == np.uint8
