"""An audit on one machine: what the store lacks is computed shard by shard, while the next pictures are decoded."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fukusen.arrays import Batch
from fukusen.auditing import Examined, Plan, examine
from fukusen.auditing.plan import Tasks
from fukusen.errors import CallError, DataError, FukusenError
from fukusen.models import Classifier, open_picture
from fukusen.models.engine import Prepared, prepared
from fukusen.models.preprocessing import CenterCrop, as_seen
from fukusen.records import Item, ItemResult
from fukusen.runner.joining import joined
from fukusen.store import Store

Progress = Callable[[int, int, str], None]
THUMBNAIL = 224
_QUALITY = 82
# Preparing a copy of the network costs as much as two batches of gradient maps.
_FEW = 3


@dataclass(frozen=True)
class Ran:
    """What a run did.

    Args:
        computed: images examined by this run.
        kept: images that the store had already.
        seconds: how long it took.
        passes: what passes were run with, in one sentence; empty where nothing was prepared for so few images.
    """

    computed: int
    kept: int
    seconds: float
    passes: str = ""


@dataclass(frozen=True, eq=False)
class _Loaded:
    """One picture ready for the network, or the reason why it is not."""

    item: Item
    key: str
    image: Tensor | None = None
    thumbnail: bytes | None = None
    reason: str = ""


def _thumbnail(picture: Image.Image, image: Tensor, model: Classifier) -> bytes:
    """What the network saw, small: the cropped picture where the crop is known, else the tensor made visible."""
    if isinstance(model.preprocess, CenterCrop):
        small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, box=model.preprocess.window(picture))
    else:
        small = as_seen(image)
        small.thumbnail((THUMBNAIL, THUMBNAIL))
    kept = io.BytesIO()
    small.convert("RGB").save(kept, "WEBP", quality=_QUALITY)
    return kept.getvalue()


def _load(item: Item, depth: str, model: Classifier) -> _Loaded:
    if model.preprocess is None:
        raise CallError("This model was wrapped without preprocessing, so picture files cannot be given to it.")
    try:
        content = Path(item.path).read_bytes()
    except OSError as error:
        return _Loaded(item, f"missing:{depth}", reason=f"it cannot be read ({error.strerror})")
    key = f"{hashlib.sha256(content).hexdigest()[:16]}:{depth}"
    try:
        picture = open_picture(item.path)
        image = model.preprocess(picture)
    except DataError as error:
        return _Loaded(item, key, reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever the user's preprocessing raises
        return _Loaded(item, key, reason=f"its preprocessing raised {type(error).__name__}: {error}")
    if tuple(image.shape) != model.input_shape:
        return _Loaded(item, key, reason=f"its preprocessing made {tuple(image.shape)}, not {model.input_shape}")
    return _Loaded(item, key, image, _thumbnail(picture, image, model))


def _shards(items: Sequence[Item], tasks: dict[str, Tasks], size: int) -> list[tuple[Tasks, list[Item]]]:
    """Groups of images with the same tasks; the same groups in every run, so that a resumed run is the same."""
    by_depth: dict[str, list[Item]] = {}
    for item in items:
        by_depth.setdefault(tasks[item.name].depth, []).append(item)
    return [
        (tasks[group[0].name], group[start : start + size])
        for group in by_depth.values()
        for start in range(0, len(group), size)
    ]


def run(plan: Plan, model: Classifier, items: Sequence[Item], store: Store, progress: Progress | None = None) -> Ran:
    """Examine every image that the store does not hold under this plan.

    A picture that cannot be read or explained becomes a failed item; whatever was stored stays when the run is ended,
    and the same call goes on from there.

    Args:
        plan: what is asked.
        model: the model.
        items: the images.
        store: where everything goes.
        progress: called with (done, total, phase) after every shard.

    Raises:
        CallError: the model cannot be given picture files.
        StoreError: the store cannot be written.
    """
    started = time.monotonic()
    done = store.done(plan.digest)
    shards = _shards(items, plan.tasks([item.name for item in items]), plan.batch)
    counted, computed = 0, 0
    # Decided by the plan and its first images, not by what is left to do: a run that goes on measures as before.
    worthwhile = any(tasks.costly for tasks, _ in shards) or len(items) > _FEW * plan.batch
    first: list[Tensor] = []
    passes: Prepared | None = None
    told = progress or (lambda _done, _total, _phase: None)
    told(0, len(items), "reading pictures")
    for tasks, loaded in _ahead(shards, model):
        work = [one for one in loaded if (one.item.name, one.key) not in done]
        first = first or [one.image for one in loaded if one.image is not None]
        if work:
            if passes is None and worthwhile and first:
                passes = prepared(model, torch.stack(first))
            _shard(plan, tasks, passes.model if passes else model, work, store)
        counted += len(loaded)
        computed += len(work)
        told(counted, len(items), "explaining")
    return Ran(computed, len(items) - computed, time.monotonic() - started, passes.note if passes else "")


def _ahead(shards: Sequence[tuple[Tasks, list[Item]]], model: Classifier) -> Iterator[tuple[Tasks, list[_Loaded]]]:
    """The shards loaded, each while the one before it is computed."""
    with ThreadPoolExecutor(max_workers=1) as pool:

        def begin(number: int) -> Future[list[_Loaded]] | None:
            if number >= len(shards):
                return None
            tasks, group = shards[number]
            return pool.submit(lambda: [_load(item, tasks.depth, model) for item in group])

        coming = begin(0)
        for number, (tasks, _) in enumerate(shards):
            present, coming = coming, begin(number + 1)
            if present is not None:
                yield tasks, present.result()


def _shard(plan: Plan, tasks: Tasks, model: Classifier, work: Sequence[_Loaded], store: Store) -> None:
    good = [one for one in work if one.image is not None]
    results = [ItemResult(one.item, one.key, "failed", one.reason) for one in work if one.image is None]
    measurements, maps = [], {}
    if good:
        found, broken = _examined(tasks, model, good)
        by_name = {one.item.name: one for one in good}
        results += [ItemResult(by_name[name].item, by_name[name].key, "failed", why) for name, why in broken.items()]
        results += [_result(by_name[name], found, place, model) for place, name in enumerate(found.items)]
        measurements, maps = list(found.measurements), found.maps
    store.append(plan.digest, results, measurements, maps)


def _examined(tasks: Tasks, model: Classifier, good: Sequence[_Loaded]) -> tuple[Examined, dict[str, str]]:
    """The shard examined at once; where that fails, image by image, so that one bad image costs only itself."""
    names = tuple(one.item.name for one in good)
    batch = Batch(names, torch.stack([one.image for one in good if one.image is not None]))
    try:
        found = examine(model, batch, tasks)
        return found, dict(found.failures)
    except FukusenError:
        raise
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        if len(good) == 1:
            said = next(iter(str(error).splitlines()), "no message")
            why = f"the model raised {type(error).__name__}: {said}"
            return Examined((), {}, (), (), (), {}), {good[0].item.name: why}
    return _one_by_one(tasks, model, good)


def _one_by_one(tasks: Tasks, model: Classifier, good: Sequence[_Loaded]) -> tuple[Examined, dict[str, str]]:
    parts, broken = [], {}
    for one in good:
        found, failures = _examined(tasks, model, [one])
        parts.append(found)
        broken.update(failures)
    return joined(parts), broken


def _result(loaded: _Loaded, found: Examined, place: int, model: Classifier) -> ItemResult:
    predicted = found.predicted[place]
    return ItemResult(
        loaded.item,
        loaded.key,
        "audited",
        predicted=predicted,
        predicted_name=model.classes[predicted],
        probability=min(1.0, max(0.0, found.probability[place])),
        thumbnail=loaded.thumbnail,
    )
