"""Image classifiers in the layout of the Hugging Face hub, from a folder or by their id, without their own code."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fukusen.errors import CallError, ModelError
from fukusen.models.found import Found
from fukusen.models.heads import HeadKind
from fukusen.models.preprocessing import assumed_for
from fukusen.models.reasons import reason
from fukusen.models.zoos import answer_from, load_timm

_HEADS: dict[str | None, HeadKind] = {
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}
_FACTORY = "write a file model.py with a function that returns the network, and name it as model.py:function"


@dataclass(frozen=True, eq=False)
class Processor:
    """The preprocessing that a model of the hub comes with.

    Args:
        made: an image processor of transformers.
    """

    made: Any

    def __call__(self, picture: Image.Image) -> Tensor:
        """The picture as a (c, h, w) float32 tensor."""
        values: Tensor = self.made(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
        return values[0].float()

    def __str__(self) -> str:
        return f"{type(self.made).__name__} of the model's own configuration"


@dataclass(frozen=True)
class _Place:
    """Where a model lies: a folder, or a repository of the hub at a revision."""

    name: str
    revision: str | None
    is_folder: bool

    @property
    def options(self) -> dict[str, Any]:
        """What every call of transformers is given: nothing that runs code of the repository's."""
        kept = {"local_files_only": True} if self.is_folder else {"revision": self.revision}
        return {"trust_remote_code": False, **kept}


def load_hub(name: str) -> Found:
    """A classifier of transformers, or of timm, with its own preprocessing, class names and kind of labels.

    Args:
        name: a folder with config.json and model.safetensors, or a repository as OWNER/NAME or OWNER/NAME@REVISION.

    Raises:
        CallError: it is neither a folder nor the name of a repository.
        ModelError: transformers is missing; the files cannot be had, need code of their own, or hold no classifier.
    """
    try:
        import huggingface_hub  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed. Install it with: pip install 'fukusen[hf]'") from None
    place = _placed(name)
    config = _config(place)
    if "architecture" in config and "model_type" not in config:
        source = "local-dir" if place.is_folder else "hf-hub"
        return load_timm(f"{source}:{place.name}{'@' + place.revision if place.revision else ''}", None)
    return _loaded(place)


def _placed(name: str) -> _Place:
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _Place(str(folder), None, is_folder=True)
    repository, _, revision = name.partition("@")
    parts = repository.split("/")
    if len(parts) != 2 or not all(part and part.strip(".~") for part in parts):
        raise CallError(
            f"There is no folder {name!r}, and it is no name of a repository. Give a folder with config.json and "
            "model.safetensors, or OWNER/NAME."
        )
    return _Place(repository, revision or None, is_folder=False)


def _config(place: _Place) -> dict[str, Any]:
    """The content of config.json."""
    try:
        file = Path(place.name, "config.json") if place.is_folder else _fetched(place)
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "Give a folder that holds config.json and model.safetensors." if place.is_folder else _offline(place)
        raise ModelError(f"The configuration of {place.name!r} cannot be read: {reason(error)}. {hint}") from error
    if not isinstance(found, dict):
        raise ModelError(f"The configuration of {place.name!r} is no table. Save the model again: save_pretrained.")
    return found


def _offline(place: _Place) -> str:
    return f"Check its name; or fetch {place.name} elsewhere, and give the folder: hf:FOLDER."


def _fetched(place: _Place) -> Path:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    kept = try_to_load_from_cache(place.name, "config.json", revision=place.revision)
    if isinstance(kept, str):
        return Path(kept)
    if not constants.HF_HUB_OFFLINE:
        answer_from(f"{constants.ENDPOINT}/{place.name}")
    return Path(hf_hub_download(place.name, "config.json", revision=place.revision))


@contextmanager
def _quietly() -> Iterator[None]:
    """Transformers draws no progress bar meanwhile and says nothing that an error does not say as well."""
    from transformers.utils import logging as transformers_logging

    said: Any = transformers_logging
    logger, bars = logging.getLogger("transformers"), said.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    said.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if bars:
            said.enable_progress_bar()


def _loaded(place: _Place) -> Found:
    from transformers import AutoModelForImageClassification

    try:
        with _quietly():
            net, told = AutoModelForImageClassification.from_pretrained(
                place.name, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **place.options
            )
    except Exception as error:
        raise ModelError(
            f"The model {place.name!r} cannot be loaded as an image classifier with weights in safetensors, without "
            f"code of its own: {reason(error)}. Save it so, or {_FACTORY}."
        ) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelError(
            f"The model {place.name!r} holds no weights for {', '.join(missing[:3])}: it was not trained as a "
            "classifier. Name one that was."
        )
    # Where the files lie is no part of what the model is: its digest must not change with the folder.
    for module in net.modules():
        if hasattr(module, "name_or_path"):
            module.config._name_or_path = module.name_or_path = ""
    if net.config.problem_type == "regression":
        raise ModelError(f"The model {place.name!r} estimates numbers (problem_type regression) and is no classifier.")
    preprocess, size, notes = _preprocessing(place, net.config)
    names = tuple(str(net.config.id2label[index]) for index in range(net.config.num_labels))
    return Found(net.eval(), preprocess, names, _HEADS.get(net.config.problem_type), size, notes)


def _preprocessing(place: _Place, config: Any) -> tuple[Any, tuple[int, int, int] | None, tuple[str, ...]]:
    """The processor that comes with the model; where there is none, what most networks with its input have."""
    if place.is_folder and not Path(place.name, "preprocessor_config.json").is_file():
        side, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
        rows, columns = side if isinstance(side, list | tuple) else (side, side)
        return assumed_for((channels, rows, columns), "The model's folder")
    import transformers

    kind: Any = transformers.AutoImageProcessor
    try:
        with _quietly():
            return Processor(kind.from_pretrained(place.name, **place.options)), None, ()
    except Exception as error:
        raise ModelError(
            f"The preprocessing of {place.name!r} cannot be loaded: {reason(error)}. Save it again with "
            f"save_pretrained, or {_FACTORY}."
        ) from error
