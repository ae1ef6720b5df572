from __future__ import annotations

import pytest

from flexres_tune.errors import ArchitectureError
from flexres_tune.spec import Architecture, parse_architecture

SMALL = {"blocks": [1, 2], "channels": [4, 8]}


def test_short_and_long_spellings_are_equal():
    long = {
        "kernel_size": [[3, 3], [3, 3]],
        "shortcut_kernel_size": [1, 1],
        "stem_channels": 4,
        "pool_size": 4,
        "head": [],
        "dropout": [0.0],
        "stem_kernel_size": 3,
        "block": "basic",
        "extra_conv": None,
    }
    assert parse_architecture(SMALL) == parse_architecture(SMALL | long)


def test_an_architecture_reads_back_from_json():
    architecture = parse_architecture("kernel_15")
    assert Architecture.model_validate(architecture.model_dump(mode="json")) == architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, "kernels must be odd, because an even one changes the map's size, but got 4; use 3 or 5"),
        ({"stem_kernel_size": 2}, "use 1 or 3"),
        (
            {"channels": [4]},
            r"channels must have one entry for each of the 2 layers in blocks=\[1, 2\], but has 1: \[4\]",
        ),
        ({"kernel_size": [3]}, "kernel_size must have one entry for each of the 2 layers"),
        ({"kernel_size": [[3, 3, 3], 3]}, "kernel_size of layer 1 must be a number or a pair for block=basic"),
        ({"block": "bottleneck", "kernel_size": [[3, 3], 3]}, r"must be one number \(its middle convolution's\)"),
        ({"head": [8], "dropout": [0.1]}, "dropout must be one number or one for each of the 2 linear layers"),
        ({"dropout": "0.1"}, "dropout"),
        ({"blocks": [0, 1]}, "blocks.0"),
        ({"chanels": [4]}, "chanels: no such field; did you mean channels?"),
        ({"num_parameters": 3}, "num_parameters must be what the architecture has"),
    ],
)
def test_what_cannot_be_built_is_refused(change, message):
    with pytest.raises(ArchitectureError, match=message):
        parse_architecture(SMALL | change)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ArchitectureError, match="did you mean resnet22_2"):
        parse_architecture("resnet22")
