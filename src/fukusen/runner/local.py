"""An audit on one machine: what the store lacks is computed shard by shard, while the next pictures are decoded."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fukusen.arrays import Batch
from fukusen.auditing import Examined, Plan, examine
from fukusen.auditing.plan import Tasks
from fukusen.errors import CallError, DataError, FukusenError
from fukusen.models import Classifier, open_picture
from fukusen.models.counting import forwards_counted
from fukusen.models.engine import Prepared, prepared
from fukusen.models.memory import ran_out
from fukusen.models.preprocessing import CenterCrop, as_seen
from fukusen.records import Item, ItemResult
from fukusen.runner.following import followed_in
from fukusen.runner.joining import joined
from fukusen.runner.sizing import Sizing
from fukusen.store import Store
from fukusen.twins import Progress

THUMBNAIL = 224
_QUALITY = 82
# Preparing a copy of the network costs as much as two batches of gradient maps, or the costly methods on a few images.
_FEW = 3
_COSTLY = 8


@dataclass(frozen=True)
class Ran:
    """What a run did.

    Args:
        computed: images examined by this run.
        kept: images that the store had already.
        seconds: how long it took.
        passes: what passes were run with, and how many images at once if not as many as planned, in sentences; empty
            where nothing was prepared for so few images.
        forwards: how many images went forward through the network, an image as often as it went.
        followed: the images that were looked at in full because they stood out, by this run or an earlier one.
    """

    computed: int
    kept: int
    seconds: float
    passes: str = ""
    forwards: int = 0
    followed: frozenset[str] = frozenset()


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
    told = progress or (lambda _done, _total, _phase: None)
    told(0, len(items), "reading pictures")
    with forwards_counted() as forwards:
        job = _Job(plan, model, store, Sizing(plan.batch))
        shards = _shards(items, plan.tasks([item.name for item in items]), plan.batch)
        # Decided by the plan and its images, not by what is left to do: a run that goes on measures as before.
        costly = sum(len(group) for tasks, group in shards if tasks.costly)
        job.worthwhile = costly > _COSTLY or len(items) > _FEW * plan.batch
        job.work_off(shards, lambda done: told(done, len(items), "explaining"))
        more = followed_in(plan, model, items, store)
        standing = [item for item in items if item.name in more]
        closer = _shards(standing, more, plan.batch)
        job.work_off(closer, lambda done: told(done, len(standing), "looking closer at what stands out"))
    kept = len(items) - len(job.computed)
    return Ran(len(job.computed), kept, time.monotonic() - started, job.note, forwards.images, frozenset(more))


@dataclass
class _Job:
    """The work of one run, and what is found out while it is done."""

    plan: Plan
    model: Classifier
    store: Store
    sizing: Sizing
    worthwhile: bool = False
    computed: set[str] = field(default_factory=set)
    passes: Prepared | None = None
    first: list[Tensor] = field(default_factory=list)

    def work_off(self, shards: Sequence[tuple[Tasks, list[Item]]], told: Callable[[int], None]) -> None:
        """Examine what the store lacks of these, and say how far it is after each shard."""
        kept = dict(self.store.done(self.plan.digest))
        counted = 0
        for tasks, loaded in _ahead(shards, self.model):
            work = [one for one in loaded if not _is_kept(kept.get(one.item.name), one, tasks)]
            self.first = self.first or [one.image for one in loaded if one.image is not None]
            if work:
                if self.passes is None and self.worthwhile and self.first:
                    self.passes = prepared(self.model, torch.stack(self.first))
                model = self.passes.model if self.passes else self.model
                _Shard(self.plan, tasks, model, self.sizing).done(work, self.store)
            counted += len(loaded)
            self.computed |= {one.item.name for one in work}
            told(counted)

    @property
    def note(self) -> str:
        """What passes were run with, in sentences."""
        return " ".join(note for note in (self.passes.note if self.passes else "", self.sizing.note) if note)


def _is_kept(key: str | None, one: _Loaded, tasks: Tasks) -> bool:
    """Whether the store holds this very file, looked at closely enough."""
    known, _, depth = (key or "").rpartition(":")
    return known == one.key.rpartition(":")[0] and tasks.covers(depth)


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


@dataclass(frozen=True)
class _Shard:
    """Some images with the same tasks."""

    plan: Plan
    tasks: Tasks
    model: Classifier
    sizing: Sizing

    def done(self, work: Sequence[_Loaded], store: Store) -> None:
        """Examine them, in as many parts as memory asks for, and store what was found as one."""
        good = [one for one in work if one.image is not None]
        results = [ItemResult(one.item, one.key, "failed", one.reason) for one in work if one.image is None]
        found, broken = _together(self.sizing.parts(self.tasks.depth, good, self._examined))
        by_name = {one.item.name: one for one in good}
        results += [ItemResult(by_name[name].item, by_name[name].key, "failed", why) for name, why in broken.items()]
        results += [_result(by_name[name], found, place, self.model) for place, name in enumerate(found.items)]
        store.append(self.plan.digest, results, list(found.measurements), found.maps)

    def _examined(self, good: Sequence[_Loaded]) -> _Tried:
        """The images at once; where that fails, one by one, so that one bad image costs only itself."""
        names = tuple(one.item.name for one in good)
        batch = Batch(names, torch.stack([one.image for one in good if one.image is not None]))
        try:
            found = examine(self.model, batch, self.tasks)
            return found, dict(found.failures)
        except FukusenError:
            raise
        except Exception as error:
            if len(good) == 1:
                return _NOTHING, {names[0]: _why(error)}
            if ran_out(error):
                raise
        return _together([self._examined([one]) for one in good])


_Tried = tuple[Examined, dict[str, str]]
_NOTHING = Examined((), {}, (), (), (), {})


def _together(parts: Sequence[_Tried]) -> _Tried:
    broken = {name: why for _, failures in parts for name, why in failures.items()}
    return joined([found for found, _ in parts]), broken


def _why(error: Exception) -> str:
    """Why one image alone cannot be examined."""
    said = next(iter(str(error).splitlines()), "no message")
    return f"the model raised {type(error).__name__}: {said}"


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
