"""Residual block: relu(S(x) + F(x)), in its basic, bottleneck and pre-activation form.

Every block takes (in_channels, width, kernels, shortcut_kernel, stride) and has an attribute `out_channels`. Submodules
have the names that `spec.parameters.list_layers` gives, so that the two can be compared layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from flexres_tune.spec.parameters import EXPANSION


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias; the odd kernel's padding F // 2 preserves the map's size, up to the stride."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = False) -> nn.Sequential:
    """Convolution, batch norm and optionally ReLU, in place, because batch norm's backward does not need its output."""
    layers = [conv(in_channels, out_channels, kernel, stride), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """relu(S(x) + BN(conv(relu(BN(conv(x)))))) (He et al. 2016, Deep Residual Learning, fig. 5 left).

    S is the identity, or conv-BN if stride or channels change. The stride is on the first convolution.
    """

    def __init__(self, in_channels: int, width: int, kernels: Sequence[int], shortcut_kernel: int, stride: int):
        super().__init__()
        self.out_channels = width
        self.conv1 = conv_norm(in_channels, width, kernels[0], stride, relu=True)
        self.conv2 = conv_norm(width, width, kernels[1])
        self.shortcut = _projection(in_channels, self.out_channels, shortcut_kernel, stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x), inplace=True)


class BottleneckBlock(nn.Module):
    """relu(S(x) + F(x)), F a 1x1, an FxF and a 1x1 convolution, 4 * width channels wide at its end.

    He et al. 2016, Deep Residual Learning, fig. 5 right, but with the stride on the FxF convolution and not on the
    first 1x1 ("ResNet v1.5", as torchvision has it): so that every position of the map is used.
    """

    def __init__(self, in_channels: int, width: int, kernels: Sequence[int], shortcut_kernel: int, stride: int):
        super().__init__()
        self.out_channels = EXPANSION * width
        self.conv1 = conv_norm(in_channels, width, 1, relu=True)
        self.conv2 = conv_norm(width, width, kernels[0], stride, relu=True)
        self.conv3 = conv_norm(width, self.out_channels, 1)
        self.shortcut = _projection(in_channels, self.out_channels, shortcut_kernel, stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)
        return F.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x), inplace=True)


class PreactBlock(nn.Module):
    """S(x) + conv(relu(BN(conv(p)))), p = relu(BN(x)) (He et al. 2016, Identity Mappings, fig. 4e).

    S(x) is x itself, or, if stride or channels change, a bare convolution of p.
    """

    def __init__(self, in_channels: int, width: int, kernels: Sequence[int], shortcut_kernel: int, stride: int):
        super().__init__()
        self.out_channels = width
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv_norm(in_channels, width, kernels[0], stride, relu=True)
        self.conv2 = conv(width, width, kernels[1])
        projects = stride != 1 or in_channels != width
        self.shortcut = conv(in_channels, width, shortcut_kernel, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:  # (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)
        activated = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(self.conv1(activated))


def _projection(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return conv_norm(in_channels, out_channels, kernel, stride)


BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "basic": BasicBlock,
    "bottleneck": BottleneckBlock,
    "preact": PreactBlock,
}
