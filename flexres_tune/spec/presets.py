"""Architectures by name, as literal rows.

`tiny` and `small` are ours. The other 27 are all the architectures of three published reports on CIFAR-10
ResNets under 5,000,000 trainable parameters: "FlexRes: Flexible ResNet with Reduced Parameters", "Mini-Project:
Residual Nets" and "Modifying ResNet on Image Classification". `num_parameters` is the exact count that the
notation gives for 32x32 images and ten classes, equal to the report's own count if it prints one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# fmt: off
_ROWS = {
    # ours: `tiny` fits 8x8 images and trains in seconds on a CPU; `small` is the smallest that learns CIFAR-10 well
    "tiny": {"blocks": [1, 1], "channels": [16, 32], "pool_size": 4, "num_parameters": 24_794},
    "small": {"blocks": [1, 1, 1], "channels": [16, 32, 64], "pool_size": 8, "num_parameters": 78_042},
    # FlexRes; resnet22_2 is the report's ResNet-22
    "resnet10": {"blocks": [1, 1, 1, 1], "channels": [64, 128, 256, 512], "pool_size": 4, "num_parameters": 4_903_242},
    "resnet18": {"blocks": [2, 2, 2, 2], "channels": [64, 157, 211, 270], "pool_size": 4, "num_parameters": 4_996_254},
    "resnet20": {"blocks": [2, 2, 2, 3], "channels": [64, 128, 185, 245], "pool_size": 4, "num_parameters": 4_998_382},
    "resnet22_1": {"blocks": [3, 3, 2, 3], "channels": [64, 128, 128, 256], "pool_size": 4, "num_parameters": 4_935_242},
    "resnet22_2": {"blocks": [3, 2, 3, 2], "channels": [64, 128, 192, 256], "pool_size": 4, "num_parameters": 4_922_826},
    "resnet32": {"blocks": [4, 4, 4, 3], "channels": [32, 64, 128, 256], "pool_size": 4, "num_parameters": 4_754_218},
    # Mini-Project
    "resnet26_97": {"blocks": [3, 3, 3, 3], "channels": [128, 100, 164, 200], "pool_size": 4, "num_parameters": 4_978_810},
    "resnet24_9684": {"blocks": [3, 3, 2, 3], "channels": [138, 100, 204, 190], "pool_size": 4, "num_parameters": 4_969_776},
    "resnet24_96": {"blocks": [3, 3, 2, 3], "channels": [136, 100, 188, 204], "pool_size": 4, "num_parameters": 4_997_074},
    # Modifying ResNet (truncated ResNet-18)
    "baseline": {"blocks": [2, 2, 2], "channels": [64, 128, 256], "pool_size": 8, "num_parameters": 2_777_674},
    "l4_pool4": {"blocks": [2, 2, 2, 2], "channels": [32, 64, 128, 256], "stem_channels": 64, "pool_size": 4, "num_parameters": 2_809_866},
    "l5_pool2": {"blocks": [2, 2, 2, 2, 2], "channels": [16, 32, 64, 128, 256], "stem_channels": 64, "pool_size": 2, "num_parameters": 2_811_818},
    "blocks_233": {"blocks": [2, 3, 3], "channels": [64, 128, 256], "pool_size": 8, "num_parameters": 4_253_770},
    "blocks_333": {"blocks": [3, 3, 3], "channels": [64, 128, 256], "pool_size": 8, "num_parameters": 4_327_754},
    "blocks_243": {"blocks": [2, 4, 3], "channels": [64, 128, 256], "pool_size": 8, "num_parameters": 4_549_194},
    "blocks_353": {"blocks": [3, 5, 3], "channels": [64, 128, 256], "pool_size": 8, "num_parameters": 4_918_602},
    "kernel_15": {"blocks": [2, 3, 2], "channels": [64, 128, 256], "kernel_size": [[1, 5], [1, 5], [1, 5]], "stem_kernel_size": 5, "pool_size": 8, "num_parameters": 4_911_178},
    "kernel_131": {"block": "bottleneck", "blocks": [3, 3, 3], "channels": [64, 128, 256], "pool_size": 8, "num_parameters": 4_914_250},
    "kernel_5": {"blocks": [1, 3, 1], "channels": [64, 128, 256], "kernel_size": [5, 5, 5], "pool_size": 8, "num_parameters": 4_964_170},
    "pool4_243": {"blocks": [2, 4, 3], "channels": [64, 128, 256], "pool_size": 4, "num_parameters": 4_556_874},
    "pool4_353": {"blocks": [3, 5, 3], "channels": [64, 128, 256], "pool_size": 4, "num_parameters": 4_926_282},
    "pool2_353": {"blocks": [3, 5, 3], "channels": [64, 128, 256], "pool_size": 2, "num_parameters": 4_957_002},
    "extra_conv": {"blocks": [2, 2, 2], "channels": [64, 128, 256], "extra_conv": 512, "pool_size": 8, "num_parameters": 3_960_906},
    "extra_conv_3fc": {"blocks": [2, 2, 2], "channels": [64, 128, 256], "extra_conv": 512, "head": [256, 128], "pool_size": 8, "num_parameters": 4_121_290},
    "wide_3fc": {"blocks": [2, 2, 2], "channels": [64, 128, 326], "head": [512, 256], "pool_size": 4, "num_parameters": 4_767_442},
    "best_3443": {"blocks": [3, 4, 4, 3], "channels": [32, 64, 128, 256], "stem_channels": 64, "head": [128], "pool_size": 4, "num_parameters": 4_779_530},
    "best_3443_fc64": {"blocks": [3, 4, 4, 3], "channels": [32, 64, 128, 256], "stem_channels": 64, "head": [128, 64], "pool_size": 4, "num_parameters": 4_787_146},
}
# fmt: on

PRESETS: Mapping[str, Mapping] = MappingProxyType({name: MappingProxyType(row) for name, row in _ROWS.items()})
