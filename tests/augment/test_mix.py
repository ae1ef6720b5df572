import pytest
import torch

from flexres_tune.augment import mix_batch
from flexres_tune.augment.mix import draw_beta

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size=64):
    """Images that are one number each, and their targets: what was mixed can be read from either."""
    values = torch.arange(size).float() / size
    return values[:, None, None, None].expand(size, 3, 32, 32).clone(), torch.eye(size)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_weights_have_the_moments_of_beta(alpha):
    g = generator()
    weights = torch.stack([draw_beta(alpha, g, CPU) for _ in range(4000)])
    deviation = (1 / (4 * (2 * alpha + 1))) ** 0.5
    assert abs(weights.mean() - 0.5) < 4 * deviation / 4000**0.5
    assert abs(weights.std() - deviation) < 0.02
    assert weights.min() >= 0 and weights.max() <= 1


def test_tiny_alpha_gives_zero_or_one_and_never_nan():
    g = generator()
    weights = torch.stack([draw_beta(1e-3, g, CPU) for _ in range(500)])
    assert ((weights < 1e-3) | (weights > 1 - 1e-3)).float().mean() > 0.97
    assert 150 < weights.round().sum() < 350


def test_alpha_of_zero_returns_the_same_tensors_and_draws_nothing():
    images, targets = batch()
    g = generator()
    state = g.get_state()
    mixed = mix_batch(images, targets, g)
    assert mixed[0] is images and mixed[1] is targets
    assert torch.equal(g.get_state(), state)


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 1.0}, {"cutmix_alpha": 1.0}])
def test_mixing_is_reproducible_and_leaves_its_input(alphas):
    images, targets = batch()
    first, second = (mix_batch(images, targets, generator(), **alphas) for _ in range(2))
    other = mix_batch(images, targets, generator(1), **alphas)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(images, batch()[0]) and torch.equal(targets, batch()[1])
    assert first[0].dtype == images.dtype and first[1].dtype == targets.dtype


@pytest.mark.parametrize("alphas", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
@pytest.mark.parametrize("seed", range(20))
def test_targets_say_what_share_of_which_image_is_there(alphas, seed):
    images, targets = batch()
    mixed, soft = mix_batch(images, targets, generator(seed), **alphas)
    torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))
    assert (soft > 0).sum(1).max() <= 2
    values = images[:, 0, 0, 0]
    torch.testing.assert_close(mixed.mean((1, 2, 3)), soft @ values, atol=1e-5, rtol=0)


def test_mixup_blends_the_whole_image_and_cutmix_a_rectangle():
    images, targets = batch()
    blended, _ = mix_batch(images, targets, generator(3), mixup_alpha=1.0)
    assert torch.equal(blended, blended[:, :1, :1, :1].expand_as(blended))
    cut, _ = mix_batch(images, targets, generator(3), cutmix_alpha=1.0)
    pasted = (cut != images)[:, 0]
    differs = pasted.any(2).any(1)
    rows, columns = pasted.any(2).sum(1), pasted.any(1).sum(1)
    assert differs.any()
    assert torch.equal(pasted.sum((1, 2)), rows * columns)  # filled
    assert len(set(rows[differs].tolist())) == 1  # one rectangle a batch


def test_cutmix_rectangles_are_lambdas_in_size_and_reach_everywhere():
    images, targets = batch(2)
    own = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    seen = torch.zeros(32, 32)
    shares = []
    g = generator()
    for _ in range(600):
        cut, soft = mix_batch(images, targets, g, cutmix_alpha=1.0)
        seen += (cut != images)[0, 0]
        shares.append(float((soft * own).sum() / 2))
    assert seen.min() > 0
    assert 0.6 < sum(shares) / len(shares) < 0.95  # half of the partners are the image itself


def test_mixup_and_cutmix_at_once_is_a_bug_of_the_caller():
    with pytest.raises(AssertionError):
        mix_batch(*batch(), generator(), mixup_alpha=1.0, cutmix_alpha=1.0)
