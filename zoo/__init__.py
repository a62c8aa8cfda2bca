"""Binary networks in Larq Zoo's style, and the recipes that train them."""

from zoo import recipes
from zoo.bireal_net import BiRealNet18, BiRealNet34, BiRealNet50
from zoo.cifar_resnet import (
    CifarResNet18,
    CifarResNet18A,
    CifarResNet18B,
    CifarResNet18C,
    CifarResNet20,
    CifarResNet34,
    CifarResNet50,
    CifarResNet101,
    CifarResNet152,
)
from zoo.react_resnet import ReActResNet18, ReActResNet34
from zoo.registry import MODELS, get_model, list_models
from zoo.resnet import ResNet18, ResNet34
from zoo.vgg_small import VGGSmall

__all__ = [
    "MODELS",
    "BiRealNet18",
    "BiRealNet34",
    "BiRealNet50",
    "CifarResNet18",
    "CifarResNet18A",
    "CifarResNet18B",
    "CifarResNet18C",
    "CifarResNet20",
    "CifarResNet34",
    "CifarResNet50",
    "CifarResNet101",
    "CifarResNet152",
    "ReActResNet18",
    "ReActResNet34",
    "ResNet18",
    "ResNet34",
    "VGGSmall",
    "get_model",
    "list_models",
    "recipes",
]
