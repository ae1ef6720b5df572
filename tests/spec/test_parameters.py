from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexres_tune.errors import ArchitectureError
from flexres_tune.spec import count_flops, count_parameters, list_layers, parse_architecture


def test_a_small_network_by_hand():
    model = {"blocks": [1, 1], "channels": [2, 4], "pool_size": 2, "head": [5]}
    stem, first = 27 * 2 + 4, 2 * (9 * 2 * 2 + 4)
    second = 9 * 2 * 4 + 8 + 9 * 4 * 4 + 8 + (2 * 4 + 8)
    head = (4 * 2 * 2 + 1) * 5 + (5 + 1) * 3
    assert count_parameters(model, num_classes=3, image_size=8) == stem + first + second + head


def test_flops_of_a_convolution():
    layers = list_layers(parse_architecture("resnet22_2"), 10, 32)
    assert layers[0].flops == 2 * 27 * 64 * 32 * 32
    assert count_flops("resnet22_2") == sum(layer.flops for layer in layers)


def test_shapes_follow_the_strides():
    shapes = {layer.name: layer.shape for layer in list_layers(parse_architecture("resnet10"), 10, 32)}
    assert shapes["stem"] == (64, 32, 32) and shapes["layer4.0.conv1"] == (512, 4, 4)
    assert shapes["pool"] == (512, 1, 1) and shapes["classifier"] == (10,)


def test_a_pool_that_does_not_fit_is_refused():
    with pytest.raises(ArchitectureError, match="pool_size must fit the output of layer4, 1x1, but got 4"):
        count_parameters("resnet10", image_size=8)


@settings(max_examples=200, deadline=None)
@given(
    layers=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 40)), min_size=1, max_size=4),
    block=st.sampled_from(["basic", "bottleneck", "preact"]),
    kernel=st.sampled_from([1, 3, 5]),
    extra=st.sampled_from([None, 7]),
)
def test_count_is_the_sum_over_all_layers(layers, block, kernel, extra):
    model = {
        "blocks": [b for b, _ in layers],
        "channels": [c for _, c in layers],
        "block": block,
        "kernel_size": kernel,
        "extra_conv": extra,
    }
    layers = list_layers(parse_architecture(model), 7, 32)
    assert count_parameters(model, 7, 32) == sum(layer.num_parameters for layer in layers)
