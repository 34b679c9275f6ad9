"""Architectures by name from torchvision and timm, with their own preprocessing and class names."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from PIL import Image
from torch import nn

from fukusen.errors import CallError, ModelError, UnknownName
from fukusen.models.preprocessing import CenterCrop, FixedSize, configured
from fukusen.models.reasons import reason
from fukusen.models.weights import filled

Loaded = tuple[nn.Module, FixedSize, tuple[str, ...] | None]
_PATIENCE = 10.0


def _needs(package: str) -> ModelError:
    return ModelError(f"{package} is not installed. Install it with: pip install 'fukusen[{package}]'")


def _answers(address: str) -> None:
    """Return if anything answers there; the libraries would ask again and again for a minute before they give up."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=_PATIENCE).close()  # noqa: S310 - the zoo's own https address
    except HTTPError:
        return


def _downloaded(make: Callable[[], nn.Module], spec: str, address: str | None) -> nn.Module:
    try:
        if address:
            _answers(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except Exception as error:
        raise ModelError(
            f"The published weights of {spec!r} could not be fetched ({reason(error)}). Give a file with --weights "
            "(weights=...)."
        ) from error


def _bare(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The same constructor without the warnings about how it draws the weights that are about to be replaced."""

    def quiet(**changes: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(**changes)

    return quiet


def load_torchvision(name: str, weights: str | Path | None) -> Loaded:
    """A torchvision classifier with its default preprocessing.

    Args:
        name: as in ``torchvision.models.list_models()``.
        weights: a weights file; None fetches torchvision's default weights.

    Raises:
        UnknownName: torchvision has no such classifier.
        ModelError: torchvision is missing, or the weights cannot be had or do not fit.
    """
    try:
        from torchvision import models
    except ImportError:
        raise _needs("torchvision") from None
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("torchvision classifier", name, known)
    published = models.get_model_weights(name).DEFAULT
    preprocess = _torchvision_preprocess(published.transforms())
    names = tuple(published.meta["categories"])
    if weights is None:
        kept = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(published.url).path).name)
        address = None if kept.is_file() else published.url
        net = _downloaded(lambda: models.get_model(name, weights=published), f"torchvision:{name}", address)
        return net.eval(), preprocess, names
    net, usual = filled(_bare(lambda **changes: models.get_model(name, weights=None, **changes)), weights)
    return net.eval(), preprocess, names if usual else None


def _torchvision_preprocess(settings: Any) -> CenterCrop:
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    size, resized = settings.crop_size[0], settings.resize_size[0]
    chosen = filters[settings.interpolation.value]
    return CenterCrop(size, size / resized, tuple(settings.mean), tuple(settings.std), int(chosen))


def load_timm(name: str, weights: str | Path | None) -> Loaded:
    """A timm classifier with the preprocessing in its own configuration.

    Args:
        name: as in ``timm.list_models()``, with or without a tag.
        weights: a weights file; None fetches timm's default weights.

    Raises:
        CallError: timm has no such model.
        ModelError: timm is missing, or the weights cannot be had or do not fit, or the model is no classifier.
    """
    try:
        import timm
    except ImportError:
        raise _needs("timm") from None
    base, _, tag = name.partition(".")
    known = timm.list_models(f"{base}.*", pretrained=True) if timm.is_model(base) else timm.list_models()
    if not timm.is_model(base) or (tag and name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CallError(f"There is no timm model named {name!r}.{hint} timm.list_models(pretrained=True) names all.")
    if weights is None:
        make = _bare(lambda: timm.create_model(name, pretrained=True))
        net = _downloaded(make, f"timm:{name}", _timm_address(name))
    else:
        net, _ = filled(_bare(lambda **changes: timm.create_model(name, pretrained=False, **changes)), weights)
    if net.num_classes == 0:
        raise ModelError(f"The timm model {name!r} has no classes: it returns features. Name one with a classifier.")
    return net.eval(), configured(timm.data.resolve_model_data_config(net)), _timm_names(net)


def _timm_address(name: str) -> str | None:
    """Where timm will look for the published weights; None where they are here, or where timm must say itself."""
    from huggingface_hub import constants, try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if not repository:
        return None
    files = ("model.safetensors", "pytorch_model.bin")
    if constants.HF_HUB_OFFLINE or any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return None
    return f"{constants.ENDPOINT}/{repository}"


def _timm_names(net: nn.Module) -> tuple[str, ...] | None:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(net)
    if not subset:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
