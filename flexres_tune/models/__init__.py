"""The ResNet family as torch modules."""

from flexres_tune.models import blocks
from flexres_tune.models.resnet import ResNet, build_model

__all__ = ["ResNet", "blocks", "build_model"]
