"""Geometric augmentations against torchvision's, and what a composed run must hold."""

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torchvision.transforms import InterpolationMode

from flexres_tune.augment import build_augmentation
from flexres_tune.augment.crop import draw_crop
from flexres_tune.augment.flip import draw_flip
from flexres_tune.augment.homography import compose, identity, sample, sample_exact
from flexres_tune.augment.perspective import draw_perspective, perspective
from flexres_tune.augment.rotation import draw_rotation, rotation

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(batch=32, size=32):
    return torch.rand(batch, 3, size, size, generator=generator(9))


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("order", [("crop", "flip"), ("flip", "crop")])
def test_crop_and_flip_equal_torchvisions_to_the_bit(order, size):
    batch, pad = images(64, size), size // 8
    seeded, draws = generator(), {"crop": draw_crop, "flip": draw_flip}
    drawn = {name: draws[name](64, size, seeded, CPU) for name in order}
    out = build_augmentation(order, size)(batch, generator())
    flips = 0
    for i, image in enumerate(batch):
        left, top = (drawn["crop"][i, :2, 2] + pad).int().tolist()
        for name in order:
            if name == "crop":
                image = F.crop(F.pad(image, [pad] * 4), top, left, size, size)
            elif drawn["flip"][i, 0, 0] < 0:
                image, flips = F.horizontal_flip(image), flips + 1
        assert torch.equal(out[i], image)
    assert 20 < flips < 44  # of 64


def test_crop_reaches_every_shift_of_the_padding_and_no_other():
    shifts = draw_crop(5000, 32, generator(), CPU)[:, :2, 2]
    assert shifts.unique().tolist() == list(range(-4, 5))
    assert len(shifts.unique(dim=0)) == 81  # both directions on their own


def test_gather_and_interpolation_agree():
    homography = compose([draw_crop(32, 32, generator(), CPU), draw_flip(32, 32, generator(1), CPU)])
    torch.testing.assert_close(sample(images(), homography), sample_exact(images(), homography, 4), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [8, 9, 32])
def test_identity_changes_nothing(size):
    torch.testing.assert_close(sample(images(4, size), identity(4, CPU)), images(4, size), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [8, 32])
def test_rotation_equals_torchvisions(size):
    angle = torch.tensor([-5.0, -1.3, 0.0, 2.0, 5.0, 90.0])
    out = sample(images(6, size), rotation(angle))
    for image, turned, degrees in zip(images(6, size), out, angle.tolist(), strict=True):
        expected = F.rotate(image, degrees, InterpolationMode.BILINEAR)
        torch.testing.assert_close(turned, expected, atol=5e-5, rtol=0)


def test_rotation_is_uniform_within_five_degrees():
    homography = draw_rotation(10_000, 32, generator(), CPU)
    angle = torch.atan2(homography[:, 1, 0], homography[:, 0, 0]).rad2deg()
    assert angle.abs().max() <= 5.0001
    assert angle.mean().abs() < 0.1 and abs(angle.std() - 10 / 12**0.5) < 0.05


@pytest.mark.parametrize("size", [8, 32])
def test_perspective_equals_torchvisions(size):
    last, reach = size - 1, size // 4
    start = torch.tensor([[0, 0], [last, 0], [last, last], [0, last]])
    inward = torch.randint(0, reach + 1, (16, 4, 2), generator=generator())
    end = start + inward * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    out = sample(images(16, size), perspective(end.float(), size))
    for image, seen, corners in zip(images(16, size), out, end, strict=True):
        expected = F.perspective(image, start.tolist(), corners.tolist(), InterpolationMode.BILINEAR)
        # torchvision gives NaN if the horizon passes through a pixel
        torch.testing.assert_close(seen, expected.nan_to_num(nan=0.0), atol=1e-3, rtol=0)


def test_a_horizon_through_a_pixel_is_black_and_not_nan():
    last = torch.tensor([[0, 0], [7, 0], [7, 7], [0, 7]])
    steps = torch.cartesian_prod(*[torch.arange(3)] * 8).view(-1, 4, 2)  # every draw there is at 8 pixels
    corners = last + steps * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    out = sample(torch.ones(len(corners), 1, 8, 8), perspective(corners.float(), 8))
    assert out.isfinite().all()


def test_perspective_leaves_half_of_the_images_alone():
    homography = draw_perspective(2000, 32, generator(), CPU)
    unchanged = (homography == torch.eye(3)).all(2).all(1).float().mean()
    assert 0.45 < unchanged < 0.55
    assert homography.isfinite().all()


def test_a_run_is_one_sampling_in_the_order_of_its_names():
    """A shift and then a turn: composed in the other order the middle of the picture would be elsewhere."""
    batch = torch.zeros(1, 3, 32, 32)
    batch[:, :, 12:20, 12:20] = 1
    shift = identity(1, CPU)
    shift[:, 0, 2] = -6.0  # content to the right by 6
    quarter = rotation(torch.tensor([90.0]))  # counter-clockwise: right becomes up
    out = sample(batch, compose([shift, quarter]))
    torch.testing.assert_close(out, sample(sample(batch, shift), quarter), atol=1e-4, rtol=0)
    assert out[0, 0, 6:14, 12:20].mean() > 0.99


def test_cutout_is_one_black_square_of_half_the_size_cut_by_the_edge():
    out = build_augmentation(["cutout"], 32)(torch.ones(2000, 3, 32, 32), generator())
    hole = out == 0
    assert (hole == hole[:, :1]).all()  # all channels
    height, width = hole[:, 0].any(2).sum(1), hole[:, 0].any(1).sum(1)
    assert torch.equal(hole[:, 0].sum((1, 2)), height * width)  # a filled rectangle
    assert height.max() == width.max() == 16 and height.min() == width.min() == 8  # centre on a corner
    assert (out[~hole] == 1).all()
