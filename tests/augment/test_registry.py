"""What every augmentation promises, alone and after others."""

import pytest
import torch

from flexres_tune.augment import AUGMENTATIONS, build_augmentation
from flexres_tune.spec.trial import AUGMENTATION_NAMES

PIPELINES = [*([name] for name in AUGMENTATIONS), list(AUGMENTATIONS), ["flip", "crop", "cutout"], []]


def images(batch, size, dtype=torch.float32):
    levels = torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(5))
    return levels.to(torch.uint8) if dtype == torch.uint8 else levels.to(dtype) / 255


def augment(names, batch, seed=0):
    return build_augmentation(names, batch.shape[-1])(batch, torch.Generator().manual_seed(seed))


def test_sweep_files_and_registry_name_the_same_augmentations():
    assert tuple(AUGMENTATIONS) == AUGMENTATION_NAMES


@pytest.mark.parametrize("size", [8, 10, 32])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=["float", "uint8"])
@pytest.mark.parametrize("names", PIPELINES, ids="+".join)
def test_shape_dtype_and_range_are_kept_and_the_input_too(names, dtype, batch, size):
    before = images(batch, size, dtype)
    given = before.clone()
    out = augment(names, given)
    assert out.shape == before.shape and out.dtype == dtype
    assert torch.equal(given, before)
    if dtype == torch.float32:
        assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("names", PIPELINES[:-1], ids="+".join)
def test_same_generator_state_gives_the_same_bits_and_another_does_not(names):
    batch = images(64, 32)
    assert torch.equal(augment(names, batch), augment(names, batch))
    assert not torch.equal(augment(names, batch), augment(names, batch, seed=1))


@pytest.mark.parametrize("names", PIPELINES[:-1], ids="+".join)
def test_global_random_state_is_neither_read_nor_moved(names):
    batch = images(16, 32)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augment(names, batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(augment(names, batch), first)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_has_its_own_draw(name):
    batch = images(1, 32).expand(64, -1, -1, -1)
    out = augment([name], batch)
    assert len({image.numpy().tobytes() for image in out}) >= (2 if name == "flip" else 10)


@pytest.mark.parametrize("names", PIPELINES, ids="+".join)
def test_memory_layout_changes_no_value(names):
    batch = images(16, 32)
    assert torch.equal(augment(names, batch), augment(names, batch.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("names", [["crop", "flip", "rotation", "perspective"], ["autoaugment"]], ids="+".join)
def test_autocast_does_not_make_the_samples_coarse(names):
    batch = images(16, 32)
    plain = augment(names, batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(names, batch), plain)


def test_no_augmentation_returns_the_images_as_they_are():
    batch = images(4, 8)
    assert augment([], batch) is batch
