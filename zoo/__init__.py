"""Binary networks in Larq Zoo's style, and the recipes that train them."""

from zoo import recipes
from zoo.bireal_net import BiRealNet18, BiRealNet18Quick, BiRealNet34, BiRealNet34Quick, BiRealNet50
from zoo.blocks import MODELS, architecture, get_model, list_models
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
from zoo.quicknet import QuickNet, QuickNetLarge, QuickNetSmall
from zoo.react_resnet import ReActResNet18, ReActResNet18Quick, ReActResNet34, ReActResNet34Quick
from zoo.resnet import ResNet18, ResNet18Quick, ResNet34, ResNet34Quick
from zoo.vgg_small import VGGSmall

__all__ = [
    "MODELS",
    "BiRealNet18",
    "BiRealNet18Quick",
    "BiRealNet34",
    "BiRealNet34Quick",
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
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "ReActResNet18",
    "ReActResNet18Quick",
    "ReActResNet34",
    "ReActResNet34Quick",
    "ResNet18",
    "ResNet18Quick",
    "ResNet34",
    "ResNet34Quick",
    "VGGSmall",
    "architecture",
    "get_model",
    "list_models",
    "recipes",
]
