"""Splits, subsets and sharing, on the sources that need no network."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from flexres_tune.datasets import DataShape, describe_dataset, digits, images, load_dataset
from flexres_tune.datasets.arrays import channel_moments, fixed_permutation
from flexres_tune.datasets.cache import DataPaths, cached_arrays, write_entry
from flexres_tune.datasets.sources import SOURCES
from flexres_tune.errors import DataError
from flexres_tune.spec.trial import DATASET_FORMS

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, on disk and in the process."""
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "cache"))
    images.load_whole.cache_clear()
    return tmp_path / "cache"


def test_sweep_files_and_registry_name_the_same_sources():
    assert tuple(f"{name}:PATH" if source.needs_path else name for name, source in SOURCES.items()) == DATASET_FORMS


def test_digits_have_their_published_shape_and_hold_every_image_once():
    from sklearn.datasets import load_digits

    data = load_dataset("digits", CPU)
    assert [len(split) for split in (data.train, data.val, data.test)] == [1197, 300, 300]
    assert data.train.images.shape == (1197, 3, 8, 8)
    assert data.num_classes == 10 and data.class_names == tuple("0123456789") and data.image_size == 8
    for split in (data.train, data.val, data.test):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert split.labels.unique().tolist() == list(range(10))
    pooled = torch.cat([split.images[:, 0] for split in (data.train, data.val, data.test)])
    expected = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(image.numpy().tobytes() for image in pooled) == sorted(image.tobytes() for image in expected)


def test_digits_keep_their_labels():
    from sklearn.datasets import load_digits

    source = load_digits()
    known = {
        np.rint(i * 255 / 16).astype(np.uint8).tobytes(): t for i, t in zip(source.images, source.target, strict=True)
    }
    data = load_dataset("digits", CPU)
    for split in (data.train, data.val, data.test):
        assert [known[image[0].numpy().tobytes()] for image in split.images] == split.labels.tolist()


def test_the_split_is_the_same_for_ever():
    """Another split would make old and new results incomparable: this number must not be changed."""
    assert hashlib.sha256(fixed_permutation(50_000).astype("<i8").tobytes()).hexdigest()[:16] == "08b14f990f5c5d6a"


@pytest.mark.parametrize("name", ["digits"])
def test_described_shape_is_the_loaded_one(name):
    data = load_dataset(name, CPU)
    assert describe_dataset(name) == DataShape(
        data.image_size, data.num_classes, len(data.train), len(data.val), len(data.test)
    )


def test_cifar10_is_described_without_being_there():
    assert describe_dataset("cifar10") == DataShape(32, 10, 45_000, 5000, 10_000)


def test_description_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from flexres_tune.datasets import describe_dataset; describe_dataset('digits'); "
        "describe_dataset('cifar10'); print({'torch', 'sklearn', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_a_subset_is_the_first_training_images_and_leaves_the_rest_whole():
    whole, part = load_dataset("digits", CPU), load_dataset("digits", CPU, 100)
    assert torch.equal(part.train.images, whole.train.images[:100])
    assert torch.equal(part.train.labels, whole.train.labels[:100])
    assert part.val is whole.val and part.test is whole.test
    assert torch.equal(part.mean, whole.mean)  # of all training images: subsets are normalised alike
    assert len(load_dataset("digits", CPU, 1197).train) == 1197


@pytest.mark.parametrize("number", [1198, 50_000, 0])
def test_a_subset_larger_than_the_training_images_is_refused(number):
    with pytest.raises(DataError, match=r"from 1 to the 1,197 training images of digits.*leave it out for all"):
        load_dataset("digits", CPU, number)


def test_same_arguments_give_the_same_object():
    assert load_dataset("digits", CPU) is load_dataset("digits", CPU)
    first, second = load_dataset("digits", CPU, 10), load_dataset("digits", CPU, 10)
    assert first.train.images.data_ptr() == second.train.images.data_ptr() and first.val is second.val
    assert load_dataset("digits", CPU, 10) is not load_dataset("digits", CPU, 11)


def test_mean_and_deviation_are_those_of_the_training_pixels():
    data = load_dataset("digits", CPU)
    pixels = data.train.images.double() / 255
    torch.testing.assert_close(data.mean, pixels.mean((0, 2, 3)).float())
    torch.testing.assert_close(data.std, pixels.std((0, 2, 3), correction=0).float())
    assert data.mean.dtype == data.std.dtype == torch.float32


def test_a_constant_channel_does_not_make_the_deviation_zero():
    assert channel_moments(np.full((3, 3, 4, 4), 7, np.uint8))[1] == pytest.approx(1 / 255)


def test_processes_that_start_together_decode_once():
    made = []

    def make():
        made.append(1)
        return digits.read_sklearn()

    with ThreadPoolExecutor(4) as pool:  # each opens the lock file for itself, as a process does
        results = list(pool.map(lambda _: cached_arrays("together", make), range(4)))
    assert len(made) == 1
    assert all(np.array_equal(result.train_images, results[0].train_images) for result in results)


def test_entry_that_another_node_wrote_first_is_kept_without_locks(cache):
    """If it were replaced, the processes that have mapped its files would lose them."""
    first = cached_arrays("first", digits.read_sklearn)
    entry = DataPaths.from_environment().entry("first")
    file = (entry / "train_images.npy").stat()
    write_entry(entry, digits.read_sklearn())
    assert (entry / "train_images.npy").stat().st_ino == file.st_ino
    assert [path.name for path in entry.parent.iterdir()] == [entry.name], "and nothing is left beside it"
    assert first.train_images.sum()


@pytest.mark.parametrize("name", ["imagenet", "parquet:", "parquet", "digits:x", "image_folder:", ""])
def test_unknown_sources_are_refused_with_the_known_ones(name):
    for ask in (describe_dataset, lambda name: load_dataset(name, CPU)):
        with pytest.raises(DataError, match="must be one of digits, cifar10, .*, parquet:PATH, image_folder:PATH"):
            ask(name)
