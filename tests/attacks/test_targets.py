"""Borders, a number, and the pictures of other attacks."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from fukusen.attacks.goals import entropy
from fukusen.attacks.targets import frame, is_paintable, outermost, painted


@pytest.mark.parametrize(("height", "width", "edge"), [(7, 7, 1), (5, 9, 1), (14, 14, 2), (40, 30, 4)])
def test_a_frame_is_a_seventh_wide(height: int, width: int, edge: int) -> None:
    made = frame(height, width)
    for i in range(height):
        for j in range(width):
            near = min(i, j, height - 1 - i, width - 1 - j) < edge
            assert float(made[i, j]) == float(near)


def test_the_border_is_the_papers() -> None:
    """28 of 49 cells: the outer ring and the corners of the next, with an entropy of ln 28."""
    made = outermost(7, 7, 4 / 7)
    inner = made[1:-1, 1:-1]
    assert int(made.sum()) == 28
    assert int(inner.sum()) == 4
    assert inner[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [1.0] * 4
    assert float(entropy(made)) == pytest.approx(math.log(28) / math.log(49))
    assert made.equal(made.flip(0))
    assert made.equal(made.T)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_outermost_cells_are_nearest_the_edges(share: float) -> None:
    made = outermost(10, 12, share)
    assert int(made.sum()) == round(share * 120)
    away = {(i, j): min(i, j, 9 - i, 11 - j) for i in range(10) for j in range(12)}
    inside = [away[i, j] for i, j in away if made[i, j] == 1]
    outside = [away[i, j] for i, j in away if made[i, j] == 0]
    assert max(inside) <= min(outside)


def test_pictures_have_names_and_files(tmp_path: object) -> None:
    """Ours, those that are drawn elsewhere, and a file."""
    path = f"{tmp_path}/half.png"
    half = Image.new("L", (4, 4), 0)
    half.paste(255, (0, 0, 2, 4))
    half.save(path)
    assert painted(path, 4, 4).tolist() == [[1.0, 1.0, 0.0, 0.0]] * 4
    assert painted("border", 14, 14).equal(frame(14, 14))
    text = ["".join("#" if cell else "." for cell in row) for row in painted("forty_two", 7, 7).tolist()]
    assert text == [".......", "#.#.##.", "#.#...#", "###..#.", "..#.#..", "..#.###", "......."]
    assert all(is_paintable(name) for name in ("border", "forty_two", "smiley", path))
    assert not any(is_paintable(name) for name in ("no such picture", "", 3, None))
