"""Pictures in every form that a caller may have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fukusen.errors import CallError
from fukusen.models.preprocessing import CenterCrop
from fukusen.verbs.gathering import gathered

EYES = (CenterCrop(8), (3, 8, 8))


def _folder(place: Path) -> Path:
    for number in range(5):
        Image.new("RGB", (20, 16), (40 * number, 9, 9)).save(place / f"{number}.png")
    (place / "4.png").write_bytes(b"")
    return place


def test_a_folder_is_read_batch_by_batch_for_every_model(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    found = list(
        gathered(_folder(tmp_path), 2).seen_by([EYES, (CenterCrop(4), (3, 4, 4))], lambda *step: told.append(step), "x")
    )
    assert [part.names for part in found] == [("0.png", "1.png"), ("2.png", "3.png"), ()]
    assert [tuple(one.shape) for one in found[0].images] == [(2, 3, 8, 8), (2, 3, 4, 4)]
    assert found[2].failures == {"4.png": "the file is empty"}
    assert told == [(2, 5, "x"), (4, 5, "x"), (5, 5, "x")]


def test_lists_pictures_and_tensors_are_the_same(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    picture = Image.open(folder / "1.png")
    (listed,) = gathered([str(folder / "1.png"), picture]).seen_by([EYES])
    assert listed.names == (str(folder / "1.png"), "image 1")
    assert torch.equal(listed.images[0][0], listed.images[0][1])
    (given,) = gathered(listed.images[0]).seen_by([EYES])
    assert torch.equal(given.images[0], listed.images[0])
    (single,) = gathered(picture).seen_by([EYES])
    assert single.names == ("image 0",)


def test_what_does_not_fit_is_a_failure(tmp_path: Path) -> None:
    folder = _folder(tmp_path)

    def raising(picture: Image.Image) -> torch.Tensor:
        raise ValueError("too red")

    (small,) = gathered(folder / "1.png").seen_by([(CenterCrop(4), (3, 8, 8))])
    (red,) = gathered(folder / "1.png").seen_by([(raising, (3, 8, 8))])
    assert small.failures == {"1.png": "it becomes (3, 4, 4), and the network takes (3, 8, 8)"}
    assert red.failures == {"1.png": "its preprocessing raised ValueError: too red"}
    with pytest.raises(CallError, match="was wrapped without preprocessing"):
        list(gathered(folder / "1.png").seen_by([(None, (3, 8, 8))]))


@pytest.mark.parametrize("images", [[], torch.rand(3, 8, 8), torch.rand(0, 3, 8, 8)])
def test_anything_else_is_refused(images: object) -> None:
    with pytest.raises(CallError, match="must be a folder, a list of pictures, or a"):
        gathered(images)  # type: ignore[arg-type]
