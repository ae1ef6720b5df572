"""The operations of AutoAugment and TrivialAugment against torchvision's, on the same uint8 images and magnitudes."""

import math

import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as F
from torchvision.transforms import AutoAugmentPolicy

from flexres_tune.augment import autoaugment, build_augmentation, trivialaugment
from flexres_tune.augment.operations import OPERATIONS
from flexres_tune.augment.policy import OPERATION_NAMES, apply_operations, spread


def shear(x, slope_x, slope_y):
    angles = [math.degrees(math.atan(slope)) for slope in (slope_x, slope_y)]
    return F.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0, 0])


def shift(x, right, down):
    return F.affine(x, angle=0.0, translate=[int(right), int(down)], scale=1.0, shear=[0.0, 0.0])


SIGNED = [-0.9, -0.37, -0.1, 0.0, 0.2, 0.6, 0.99]
PIXELS = [-32.0, -14.5, -3.9, 0.0, 1.1, 7.0, 20.0]
# operation: what torchvision does, magnitudes, levels a pixel may differ by at most, share of pixels that may differ
REFERENCE = {
    "identity": (lambda x, m: x, [0.0], 0, 0.0),
    # nearest neighbour: a sample that falls between two pixels may go to either
    "shear_x": (lambda x, m: shear(x, m, 0), SIGNED, 255, 0.01),
    "shear_y": (lambda x, m: shear(x, 0, m), SIGNED, 255, 0.01),
    "translate_x": (lambda x, m: shift(x, m, 0), PIXELS, 0, 0.0),
    "translate_y": (lambda x, m: shift(x, 0, m), PIXELS, 0, 0.0),
    "rotate": (lambda x, m: F.rotate(x, m), [-135.0, -30.0, -7.3, 0.0, 12.0, 135.0], 255, 0.01),
    "brightness": (lambda x, m: F.adjust_brightness(x, 1 + m), SIGNED, 1, 0.001),
    # blends: torchvision's rounds f a + (1 - f) b, which is often just below the whole number that is meant
    "color": (lambda x, m: F.adjust_saturation(x, 1 + m), SIGNED, 1, 0.05),
    "contrast": (lambda x, m: F.adjust_contrast(x, 1 + m), SIGNED, 1, 0.05),
    "sharpness": (lambda x, m: F.adjust_sharpness(x, 1 + m), SIGNED, 1, 0.05),
    "posterize": (lambda x, m: F.posterize(x, int(m)), [8.0, 7.0, 6.0, 4.0, 2.0], 0, 0.0),
    "solarize": (lambda x, m: F.solarize(x, m), [255.0, 200.5, 127.5, 100.0, 0.0], 0, 0.0),
    "autocontrast": (lambda x, m: F.autocontrast(x), [0.0], 1, 0.001),
    "equalize": (lambda x, m: F.equalize(x), [0.0], 0, 0.0),
    "invert": (lambda x, m: F.invert(x), [0.0], 0, 0.0),
}


def pictures(size=32, batch=12):
    """Smooth pictures with noise, of different contrast, as photographs have; one of a single colour."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    noise = 0.08 * torch.randn(batch, 3, size, size, generator=generator)
    contrast = torch.linspace(0.2, 1.2, batch)[:, None, None, None]
    images = ((smooth + noise - 0.5) * contrast + 0.5).clamp(0, 1)
    images[0] = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    return (images * 255).to(torch.uint8)


def test_every_operation_has_a_reference():
    assert set(REFERENCE) == set(OPERATIONS)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("name", REFERENCE)
def test_operation_equals_torchvisions(name, size):
    reference, magnitudes, most, share = REFERENCE[name]
    for magnitude in magnitudes:
        images = pictures(size)
        operation = torch.full((len(images),), OPERATION_NAMES.index(name))
        out = apply_operations(images, operation, torch.full((len(images),), magnitude))
        difference = (out.int() - reference(images, magnitude).int()).abs()
        assert difference.max() <= most, magnitude
        assert (difference > 0).float().mean() <= share, magnitude


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_is_changed_by_its_own_magnitude(name):
    _, magnitudes, _, _ = REFERENCE[name]
    images = pictures()[5:6].expand(len(magnitudes), -1, -1, -1)
    operation = torch.full((len(images),), OPERATION_NAMES.index(name))
    together = apply_operations(images, operation, torch.tensor(magnitudes))
    for image, magnitude in zip(together, magnitudes, strict=True):
        assert torch.equal(image[None], apply_operations(images[:1], operation[:1], torch.tensor([magnitude])))


def test_masks_and_sub_batches_give_the_same_bits():
    """The path of other devices, run here on the CPU, against the CPU's own."""
    images = pictures(batch=len(OPERATIONS) * 3)
    operation = torch.arange(len(images)) % len(OPERATIONS)
    magnitude = torch.tensor([REFERENCE[OPERATION_NAMES[i]][1][-1] for i in operation])
    sparse = apply_operations(images, operation, magnitude, dense=False)
    assert torch.equal(apply_operations(images, operation, magnitude, dense=True), sparse)


def test_autoaugment_has_torchvisions_policy_and_magnitudes():
    theirs = T.AutoAugment(AutoAugmentPolicy.CIFAR10)
    names = {"color": "Color", "autocontrast": "AutoContrast", "shear_x": "ShearX", "shear_y": "ShearY"}
    names |= {"translate_x": "TranslateX", "translate_y": "TranslateY"}

    def plain(pair):
        return tuple((names.get(op, op.capitalize()), probability, magnitude) for op, probability, magnitude in pair)

    expected = [tuple((op, p, m or 0) for op, p, m in pair) for pair in theirs._policies]
    assert [plain(pair) for pair in autoaugment.POLICY] == expected
    check_space(autoaugment.ranges(32), theirs._AUGMENTATION_SPACE, names, 10)


def test_trivialaugment_has_torchvisions_space():
    names = {"color": "Color", "autocontrast": "AutoContrast", "shear_x": "ShearX", "shear_y": "ShearY"}
    names |= {"translate_x": "TranslateX", "translate_y": "TranslateY"}
    space = T.TrivialAugmentWide._AUGMENTATION_SPACE
    assert {names.get(name, name.capitalize()) for name in trivialaugment.ranges(32)} == set(space)
    check_space(trivialaugment.ranges(32), space, names, 31)


def check_space(ranges, space, names, num_bins):
    table = spread(ranges, num_bins)
    for name, row in ranges.items():
        magnitudes, signed = space[names.get(name, name.capitalize())]
        expected = magnitudes(num_bins, 32, 32)
        assert row.signed == signed
        if expected is not None:
            ours = table[OPERATION_NAMES.index(name)]
            ours = ours.round() if name == "posterize" else ours / 255 if name == "solarize" else ours
            torch.testing.assert_close(ours, expected.to(ours.dtype), atol=1e-5, rtol=1e-5)


def test_trivialaugment_draws_all_operations_evenly():
    """Two of the 14 have one outcome each, which can be recognised in the result."""
    images = pictures()[6:7].expand(2000, -1, -1, -1)
    out = build_augmentation(["trivialaugment"], 32)(images, torch.Generator().manual_seed(0))
    for name in ("autocontrast", "equalize"):
        count = int((out == REFERENCE[name][0](images[:1], 0.0)).all(3).all(2).all(1).sum())
        assert abs(count - 2000 / 14) < 4 * (2000 / 14 * 13 / 14) ** 0.5  # four standard deviations


def test_images_smaller_than_32_pixels_are_never_shifted_out_of_sight_by_more_than_their_size():
    assert trivialaugment.ranges(8)["translate_x"].high == 8
    assert trivialaugment.ranges(64)["translate_x"].high == 32
