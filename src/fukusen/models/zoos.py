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
from fukusen.models.found import Found
from fukusen.models.preprocessing import CenterCrop, configured
from fukusen.models.reasons import reason
from fukusen.models.weights import filled

_PATIENCE = 10.0
_SAVED = ("local-dir:", "hf-hub:")


def _needs(package: str) -> ModelError:
    return ModelError(f"{package} is not installed. Install it with: pip install 'fukusen[{package}]'")


def answer_from(address: str) -> None:
    """Return if anything answers there; the libraries would ask again and again for a minute before they give up."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=_PATIENCE).close()  # noqa: S310 - the zoo's own https address
    except HTTPError:
        return


def _downloaded(make: Callable[[], nn.Module], spec: str, address: str | None) -> nn.Module:
    try:
        if address:
            answer_from(address)
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


def load_torchvision(name: str, weights: str | Path | None) -> Found:
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
        return Found(net.eval(), preprocess, names)
    net, usual = filled(_bare(lambda **changes: models.get_model(name, weights=None, **changes)), weights)
    return Found(net.eval(), preprocess, names if usual else None)


def _torchvision_preprocess(settings: Any) -> CenterCrop:
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    size, resized = settings.crop_size[0], settings.resize_size[0]
    chosen = filters[settings.interpolation.value]
    return CenterCrop(size, size / resized, tuple(settings.mean), tuple(settings.std), int(chosen))


def load_timm(name: str, weights: str | Path | None) -> Found:
    """A timm classifier with the preprocessing and the class names in its own configuration.

    Args:
        name: as in ``timm.list_models()``, with or without a tag; or ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``,
            where timm has saved it with its configuration.
        weights: a weights file; None fetches timm's default weights.

    Raises:
        CallError: timm has no such model.
        ModelError: timm is missing, or the weights cannot be had or do not fit, or the model is no classifier.
    """
    try:
        import timm
    except ImportError:
        raise _needs("timm") from None
    if not name.startswith(_SAVED):
        _check_name(name, timm.is_model, timm.list_models)
    if weights is None:
        make = _bare(lambda: timm.create_model(name, pretrained=True))
        net = _from_folder(make, name) if name.startswith(_SAVED[0]) else _fetched(make, name)
    else:
        net, _ = filled(_bare(lambda **changes: timm.create_model(name, pretrained=False, **changes)), weights)
    if net.num_classes == 0:
        raise ModelError(f"The timm model {name!r} has no classes: it returns features. Name one with a classifier.")
    return Found(net.eval(), configured(timm.data.resolve_model_data_config(net)), _timm_names(net))


def _check_name(name: str, is_model: Callable[[str], bool], list_models: Callable[..., list[str]]) -> None:
    base, _, tag = name.partition(".")
    known = list_models(f"{base}.*", pretrained=True) if is_model(base) else list_models()
    if not is_model(base) or (tag and name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CallError(f"There is no timm model named {name!r}.{hint} timm.list_models(pretrained=True) names all.")


def _fetched(make: Callable[[], nn.Module], name: str) -> nn.Module:
    return _downloaded(make, f"timm:{name}", _timm_address(name))


def _from_folder(make: Callable[[], nn.Module], name: str) -> nn.Module:
    folder = name.removeprefix(_SAVED[0])
    try:
        net = make()
    except Exception as error:
        raise ModelError(
            f"The folder {folder!r} cannot be loaded by timm: {reason(error)}. It must hold config.json and "
            "model.safetensors, as timm.models.save_for_hf leaves them."
        ) from error
    # Where the files lie is no part of what the model is: its digest must not change with the folder.
    net.pretrained_cfg.pop("file", None)  # type: ignore[operator, union-attr]
    return net


def _timm_address(name: str) -> str | None:
    """Where timm will look for the published weights; None where they are here, or where timm must say itself."""
    from huggingface_hub import constants, try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    config = None if name.startswith(_SAVED) else get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else name.partition(_SAVED[1])[2].partition("@")[0]
    if not repository:
        return None
    files = ("model.safetensors", "pytorch_model.bin")
    if constants.HF_HUB_OFFLINE or any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return None
    return f"{constants.ENDPOINT}/{repository}"


def _timm_names(net: Any) -> tuple[str, ...] | None:
    """The names in the model's own configuration; else those of the part of ImageNet that it was trained on."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    own, told = net.pretrained_cfg.get("label_names"), net.pretrained_cfg.get("label_descriptions") or {}
    if own and len(own) == net.num_classes:
        return tuple(str(told.get(name, name)) for name in (own.values() if isinstance(own, dict) else own))
    subset = infer_imagenet_subset(net)
    if not subset:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
