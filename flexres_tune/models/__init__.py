"""The budgeted ResNet as a torch module."""

from flexres_tune.models.resnet import ResNet, build_model

__all__ = ["ResNet", "build_model"]
