"""ResNet: stem, N residual layers, average pool, linear head; `spec.count_parameters` counts its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flexres_tune.models.blocks import BLOCKS, conv, conv_norm
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.own_code.model import OwnModel
from flexres_tune.spec.parameters import IMAGE_CHANNELS, list_layers, parse_architecture


def build_model(
    architecture: str | Mapping[str, Any] | Architecture | OwnModel, num_classes: int = 10, image_size: int = 32
) -> nn.Module:
    """A newly initialised network; its weights depend only on torch's global generator, which the caller seeds.

    Args:
        architecture: a preset's name, a mapping with the presets' keys, an Architecture or an OwnModel.
        num_classes: outputs of the classifier.
        image_size: height and width of the (square, RGB) images in pixels.

    Raises:
        ArchitectureError: the architecture is not valid, or its pool window does not fit the last map.
        CodeError: an own model cannot be built.
    """
    if isinstance(architecture, OwnModel):
        return architecture.build(num_classes, image_size)
    parsed = parse_architecture(architecture)
    layers = {layer.name: layer for layer in list_layers(parsed, num_classes, image_size)}  # raises ArchitectureError
    return ResNet(parsed, num_classes, math.prod(layers["pool"].shape))


class ResNet(nn.Module):
    """Logits of images (B, 3, H, W) -> (B, num_classes).

    Layer i is B_i blocks of C_i channels; the first block of every layer but the first has stride 2. Convolutions
    are initialised from N(0, 2 / fan_out) (He et al. 2015, Delving Deep into Rectifiers, eq. 14), batch norms with
    weight 1 and bias 0, linear layers with torch's default. `export` copies this class and blocks.py into a file.

    Args:
        num_features: numbers per image that the pool returns, for the head.
    """

    def __init__(self, architecture: Architecture, num_classes: int, num_features: int):
        super().__init__()
        a = architecture
        preact = a.block == "preact"
        channels = a.stem_channels
        # pre-activation: the first block normalises the stem's output itself
        stem = conv if preact else conv_norm
        self.stem = stem(IMAGE_CHANNELS, channels, a.stem_kernel_size, **({} if preact else {"relu": True}))
        self.num_layers = len(a.blocks)
        for i, (num_blocks, width) in enumerate(zip(a.blocks, a.channels, strict=True)):
            blocks = []
            for b in range(num_blocks):
                stride = 2 if i > 0 and b == 0 else 1
                block = BLOCKS[a.block](channels, width, a.kernel_size[i], a.shortcut_kernel_size[i], stride)
                blocks.append(block)
                channels = block.out_channels
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.final_norm = nn.BatchNorm2d(channels) if preact else None
        self.extra_conv = conv_norm(channels, a.extra_conv, 3, relu=True) if a.extra_conv else None
        self.pool = nn.AvgPool2d(a.pool_size)

        widths = (num_features, *a.head, num_classes)
        linears = [
            [*([nn.Dropout(p)] if p else []), nn.Linear(c_in, c_out)]
            for p, c_in, c_out in zip(a.dropout, widths[:-1], widths[1:], strict=True)
        ]
        self.head = nn.Sequential(*(nn.Sequential(*linear, nn.ReLU(inplace=True)) for linear in linears[:-1]))
        self.classifier = nn.Sequential(*linears[-1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, num_classes)
        x = self.stem(images)
        for i in range(self.num_layers):
            x = getattr(self, f"layer{i + 1}")(x)  # (B, C_i, H / 2^i, W / 2^i)
        if self.final_norm is not None:
            x = self.final_norm(x).relu_()
        if self.extra_conv is not None:
            x = self.extra_conv(x)
        return self.classifier(self.head(self.pool(x).flatten(1)))
