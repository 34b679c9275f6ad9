"""Memory that runs out: fewer images at once, the same results, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fukusen
from fukusen.arrays import Images
from fukusen.errors import CallError
from fukusen.models import Classifier, wrap
from fukusen.models import engine as engines
from fukusen.models.memory import ran_out
from fukusen.models.preprocessing import CenterCrop
from fukusen.runner.sizing import Sizing
from fukusen.store import Store

METHODS = ["grad_cam", "gradient"]
ABSURD = 2**58


def _device_error() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def _own_error() -> Exception:
    return MemoryError("Unable to allocate 8.00 EiB for an array")


def _allocator_error() -> Exception:
    """What torch itself raises when it cannot have what it asks the machine for."""
    try:
        torch.empty(ABSURD, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("there is a machine with so much memory")


ERRORS = {"device": _device_error, "python": _own_error, "allocator": _allocator_error}


class _Heavy(nn.Module):
    """A network that cannot take more than so many images at once, and whose memory holds no bright image at all."""

    def __init__(self, most: int, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 3)
        self.most, self.kind = most, kind
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self.most or bool((images.mean(dim=(1, 2, 3)) > 1.8).any()):
            error = ERRORS[self.kind]()
            raise error
        return self.head(self.body(images).mean((2, 3)))


def _model(most: int, kind: str = "device") -> Classifier:
    net = _Heavy(10**9, kind).eval()
    model = wrap(net, CenterCrop(24), head="softmax")
    net.most = most
    return model


def _pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        dots = chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(dots).resize((48, 48)).save(folder / f"{number:02}.png")
    return folder


def _stored(done: fukusen.Audit) -> tuple[dict[tuple[str, ...], object], dict[str, str]]:
    """Every measurement by what it is of, and what became of every image."""
    store, plan = Store.open(done.folder), done.verdict["plan"]["digest"]
    values = {
        (str(one.check), str(one.item), str(one.method), str(one.score), str(one.against), str(one.layer)): one.value
        for one in store.measurements(plan)
    }
    return values, {one.item.name: one.status for one in store.results(plan)}


@pytest.mark.parametrize("kind", ERRORS)
def test_the_errors_of_allocators_are_known(kind: str) -> None:
    assert ran_out(ERRORS[kind]())


@pytest.mark.parametrize("error", [RuntimeError("sizes differ"), ValueError("out of memory"), KeyError("memory")])
def test_other_errors_are_not(error: Exception) -> None:
    assert not ran_out(error)


def test_an_audit_goes_on_with_fewer_images_at_once(tmp_path: Path) -> None:
    """Nothing is lost, the measurements are those of the smaller batch, and a sentence says so."""
    pictures = _pictures(tmp_path / "in", 12)
    heavy, light = _model(6, "allocator"), _model(6, "allocator")
    done = fukusen.audit(heavy, pictures, tmp_path / "heavy", methods=METHODS, batch=8, budget="quick")
    small = fukusen.audit(light, pictures, tmp_path / "light", methods=METHODS, batch=4, budget="quick")
    assert done.verdict["images"] == {"asked": 12, "audited": 12, "failed": 0, "failures": []}
    assert done.verdict["environment"]["passes"].endswith(
        "Memory ran out with 8 images at once: they were taken 4 at a time."
    )
    assert _stored(done) == _stored(small)


def test_later_parts_begin_with_the_size_that_worked() -> None:
    tried: list[int] = []

    def work(part: Sequence[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > 3:
            raise MemoryError
        return list(part)

    sizing = Sizing(12)
    assert sizing.parts("any", range(12), work) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert tried == [12, 6, 3, 3, 3, 3]
    tried.clear()
    assert sizing.parts("any", range(12, 16), work) == [[12, 13, 14], [15]]
    assert tried == [3, 1]


def test_an_image_that_does_not_fit_alone_is_a_failed_item(tmp_path: Path) -> None:
    pictures = _pictures(tmp_path / "in", 4)
    Image.new("RGB", (48, 48), "white").save(pictures / "bright.png")
    done = fukusen.audit(_model(9), pictures, tmp_path / "out", methods=["grad_cam"], batch=4)
    (failure,) = done.verdict["images"]["failures"]
    assert failure["item"] == "bright.png"
    assert failure["reason"].startswith("the model raised OutOfMemoryError: CUDA out of memory.")
    assert done.verdict["images"]["audited"] == 4


def test_a_faster_copy_is_checked_on_as_many_images_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_LEAST", 0)
    model = _model(2)
    made = engines.prepared(model, torch.randn(6, 3, 24, 24, generator=torch.Generator().manual_seed(3)))
    assert made.note.endswith(", with 1 batch norms folded: it gives what the network gives on 1 images.")


def test_what_is_not_about_memory_is_not_tried_again() -> None:
    tried: list[int] = []

    def work(part: Sequence[int]) -> Images:
        tried.append(len(part))
        raise RuntimeError("sizes differ")

    sizing = Sizing(4)
    with pytest.raises(RuntimeError, match="sizes differ"):
        sizing.parts("any", range(9), work)
    assert tried == [4]
    assert sizing.note == ""


def test_one_thing_that_does_not_fit_is_the_callers_affair() -> None:
    def work(part: Sequence[int]) -> int:
        raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        Sizing(4).parts("any", range(9), work)


def test_kinds_of_work_have_sizes_of_their_own() -> None:
    def work(part: Sequence[int]) -> int:
        if len(part) > 2:
            raise MemoryError
        return len(part)

    sizing = Sizing(5)
    assert sizing.parts("much", range(5), work) == [2, 2, 1]
    assert sizing.parts("little", range(5), len) == [5]
    assert sizing.parts("little", [], len) == []


def test_a_bad_size_is_refused() -> None:
    with pytest.raises(CallError, match="The 'planned' parameter of Sizing must be an int >= 1. Got 0 instead."):
        Sizing(0)
