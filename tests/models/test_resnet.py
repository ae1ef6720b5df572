import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexres_tune.errors import ArchitectureError
from flexres_tune.models import build_model
from flexres_tune.models.blocks import BLOCKS
from flexres_tune.spec import PRESETS, count_parameters, list_layers, parse_architecture


def num_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_stated_number_of_parameters(name):
    with torch.device("meta"):
        model = build_model(name)
    assert num_parameters(model) == count_parameters(name) == PRESETS[name]["num_parameters"]


odd = st.sampled_from([1, 3, 5])
width = st.integers(1, 12)


@st.composite
def architectures(draw):
    """Any architecture, every field varied, with few channels; (mapping, num_classes, image_size)."""
    n = draw(st.integers(1, 4))
    block = draw(st.sampled_from(list(BLOCKS)))
    kernel = odd if block == "bottleneck" else st.one_of(odd, st.tuples(odd, odd))
    head = draw(st.lists(width, max_size=3))
    image_size = draw(st.sampled_from([7, 8, 15, 32]))
    last_map = image_size
    for _ in range(n - 1):
        last_map = -(-last_map // 2)
    probability = st.sampled_from([0.0, 0.25])
    mapping = {
        "block": block,
        "blocks": draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)),
        "channels": draw(st.lists(width, min_size=n, max_size=n)),
        "kernel_size": draw(st.one_of(odd, st.lists(kernel, min_size=n, max_size=n))),
        "shortcut_kernel_size": draw(st.one_of(odd, st.lists(odd, min_size=n, max_size=n))),
        "pool_size": draw(st.integers(1, last_map)),
        "stem_channels": draw(st.none() | width),
        "stem_kernel_size": draw(odd),
        "extra_conv": draw(st.none() | width),
        "head": head,
        "dropout": draw(st.one_of(probability, st.lists(probability, min_size=len(head) + 1, max_size=len(head) + 1))),
    }
    mapping = {key: value for key, value in mapping.items() if value is not None}
    return mapping, draw(st.integers(1, 12)), image_size


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(architectures())
def test_analytic_layers_equal_the_built_ones(case):
    """Built on the meta device, which has shapes and no numbers: computing them took a minute of CPU time."""
    mapping, num_classes, image_size = case
    with torch.device("meta"):
        model, images = build_model(mapping, num_classes, image_size), torch.zeros(2, 3, image_size, image_size)
    layers = list_layers(parse_architecture(mapping), num_classes, image_size)
    shapes = {}
    for layer in layers:
        module = model.get_submodule(layer.name)
        assert num_parameters(module) == layer.num_parameters, layer.name
        module.register_forward_hook(lambda _, __, output, name=layer.name: shapes.update({name: output.shape[1:]}))
    assert model(images).shape == (2, num_classes)
    assert {layer.name: layer.shape for layer in layers} == {k: tuple(v) for k, v in shapes.items()}
    assert num_parameters(model) == count_parameters(mapping, num_classes, image_size)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_kind_of_block_reaches_all_its_parameters(block):
    torch.manual_seed(0)
    model = build_model({"block": block, "blocks": [2, 1], "channels": [4, 8], "pool_size": 4, "head": [5]}, 3, 8)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_basic_block_is_relu_of_shortcut_plus_convolutions():
    block = BLOCKS["basic"](4, 6, (3, 5), 1, 2).eval()
    x = torch.randn(2, 4, 9, 9)
    (conv1, norm1, _), (conv2, norm2), (conv3, norm3) = block.conv1, block.conv2, block.shortcut
    expected = torch.relu(norm3(conv3(x)) + norm2(conv2(torch.relu(norm1(conv1(x))))))
    torch.testing.assert_close(block(x), expected)


def test_preact_block_projects_the_activated_input():
    block = BLOCKS["preact"](4, 6, (3, 3), 1, 2).eval()
    x = torch.randn(2, 4, 8, 8)
    activated = torch.relu(block.norm1(x))
    torch.testing.assert_close(block(x), block.shortcut(activated) + block.conv2(block.conv1(activated)))


def test_preact_block_without_projection_passes_its_input_on():
    block = BLOCKS["preact"](4, 4, (3, 3), 1, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_bottleneck_has_its_stride_on_the_spatial_convolution():
    block = BLOCKS["bottleneck"](4, 2, (3,), 1, 2)
    assert [block.conv1[0].stride, block.conv2[0].stride, block.conv3[0].stride] == [(1, 1), (2, 2), (1, 1)]
    assert block(torch.zeros(2, 4, 8, 8)).shape == (2, 8, 4, 4)


def test_weights_follow_the_seed_alone():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.nn.utils.parameters_to_vector(build_model("tiny").parameters())

    first = weights(1)
    assert not torch.equal(first, weights(2))
    assert torch.equal(first, weights(1))


def test_convolutions_start_from_he_normal_over_fan_out():
    torch.manual_seed(0)
    weight = build_model({"blocks": [1], "channels": [128], "pool_size": 4}).layer1[0].conv1[0].weight
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert weight.abs().max() > 3 * weight.std()  # a normal distribution reaches further than a uniform one


def test_dropout_works_in_training_only():
    model = build_model({"blocks": [1], "channels": [8], "pool_size": 4, "head": [32], "dropout": 0.5}, image_size=8)
    x = torch.randn(4, 3, 8, 8)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet22", "model must be a preset's name .* did you mean resnet"),
        ({"blocks": [1, 1], "channels": [4, 8], "pool_size": 17}, "pool_size must fit the output .* 16x16, but got 17"),
        ({"blocks": [1], "channels": [4], "kernel_size": 4}, "kernels must be odd"),
        ({"blocks": [1], "channels": [4], "chanels": 3}, "chanels: no such field; did you mean channels"),
    ],
)
def test_wrong_architecture_is_refused_with_the_specs_own_message(architecture, message):
    with pytest.raises(ArchitectureError, match=message):
        build_model(architecture)
