"""A sheet holds the picture, a cell for every map and the reason for each that is missing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fukusen.pictures import Cell, Sheet, contact_sheet
from fukusen.pictures.sheet import BESIDE, GAP, HEADING, LONGER, MARGIN, PAPER
from fukusen.records import Undefined


def sheet(cells: list[list[Cell]], size: tuple[int, int] = (224, 224), title: str = "cat.png") -> Sheet:
    return Sheet(
        Image.new("RGB", size, (0, 120, 200)),
        title,
        ["Explained: Egyptian cat (class 285), probability 0.93."],
        [("grad_cam", "inner, cam") for _ in cells],
        [("logit", "shift leak 1") for _ in cells[0]],
        {(row, column): cell for row, line in enumerate(cells) for column, cell in enumerate(line)},
    )


def inked(part: np.ndarray) -> bool:
    return bool((part != np.array(PAPER)).any())


def test_every_map_has_its_place() -> None:
    full, empty = np.eye(7), np.zeros((7, 7))
    shown = np.asarray(contact_sheet(sheet([[full, empty], [Undefined("it cannot be"), full]])))
    top = MARGIN + LONGER + MARGIN + HEADING
    left = MARGIN + BESIDE
    step = LONGER + GAP
    assert shown.shape == (top + 2 * step + MARGIN, max(left + 2 * step + MARGIN - GAP, MARGIN + LONGER + 500), 3)
    corners = [[shown[top + r * step + 20 : top + r * step + 200, left + c * step + 3] for c in (0, 1)] for r in (0, 1)]
    assert inked(corners[0][0])
    assert inked(corners[1][1])
    assert not inked(corners[0][1])
    assert not inked(corners[1][0])
    for row, column in ((0, 1), (1, 0)):
        y, x = top + row * step, left + column * step
        assert inked(shown[y + 8 : y + 60, x + 10 : x + 200]), "the reason is written"


@pytest.mark.parametrize("size", [(640, 480), (30, 90), (1, 400), (224, 224)])
def test_the_picture_keeps_its_shape(size: tuple[int, int]) -> None:
    shown = np.asarray(contact_sheet(sheet([[np.ones((2, 2))]], size)))
    blue = (shown == np.array([0, 120, 200])).all(axis=2)
    rows, columns = blue.any(axis=1).sum(), blue.any(axis=0).sum()
    assert max(rows, columns) == LONGER
    assert columns / rows == pytest.approx(
        max(24, size[0] * LONGER / max(size)) / max(24, size[1] * LONGER / max(size)), rel=0.03
    )


@pytest.mark.parametrize("title", ["", "猫.png", "a very long name " * 12, "nospaces" * 40])
def test_any_title_is_written_within_the_sheet(title: str) -> None:
    shown = np.asarray(contact_sheet(sheet([[np.ones((2, 2))]], title=title)))
    assert not inked(shown[:, -MARGIN // 2 :])
