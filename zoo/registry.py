"""Architectures by their command-line names."""

from collections.abc import Callable

from bnn_tf._tensorflow import tf
from bnn_tf.errors import unknown
from zoo import bireal_net, cifar_resnet, react_resnet, resnet, vgg_small

MODELS: dict[str, Callable[..., tf.keras.Model]] = {
    "bireal_net18": bireal_net.BiRealNet18,
    "bireal_net34": bireal_net.BiRealNet34,
    "bireal_net50": bireal_net.BiRealNet50,
    "cifar_resnet18": cifar_resnet.CifarResNet18,
    "cifar_resnet18a": cifar_resnet.CifarResNet18A,
    "cifar_resnet18b": cifar_resnet.CifarResNet18B,
    "cifar_resnet18c": cifar_resnet.CifarResNet18C,
    "cifar_resnet20": cifar_resnet.CifarResNet20,
    "cifar_resnet34": cifar_resnet.CifarResNet34,
    "cifar_resnet50": cifar_resnet.CifarResNet50,
    "cifar_resnet101": cifar_resnet.CifarResNet101,
    "cifar_resnet152": cifar_resnet.CifarResNet152,
    "react_resnet18": react_resnet.ReActResNet18,
    "react_resnet34": react_resnet.ReActResNet34,
    "resnet18": resnet.ResNet18,
    "resnet34": resnet.ResNet34,
    "vgg_small": vgg_small.VGGSmall,
}


def list_models() -> list[str]:
    """The architectures' names, as the command line takes them."""
    return list(MODELS)


def get_model(name: str) -> Callable[..., tf.keras.Model]:
    """The architecture called `name` in snake case.

    Raises:
        UsageError: there is none; the message names the nearest and all.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]
