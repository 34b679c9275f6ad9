"""A contact sheet: one picture and all its heatmaps, a row a method and a column a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fukusen.pictures.heat import RAMP, Weight, flattened, laid_over
from fukusen.records import Undefined

LONGER = 216
GAP = 10
MARGIN = 28
BESIDE = 168
HEADING = 58
INK, FAINT, PAPER, LINE = (24, 24, 32), (105, 105, 118), (255, 255, 255), (222, 222, 228)
# Pillow's own font has no letters beyond Latin ones; these are where the usual systems have them.
_WIDER = ("NotoSansCJK-Regular.ttc", "NotoSansJP-Regular.otf", "YuGothM.ttc", "msgothic.ttc", "Hiragino Sans GB.ttc")
Cell = Weight | Undefined
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Sheet:
    """What stands on a contact sheet.

    Args:
        picture: as the network saw it.
        title: what it is.
        lines: what is said of it, one sentence a line.
        rows: the label of each row, the first line in larger letters.
        columns: the label of each column, likewise.
        cells: by row and column the weight to draw, 0 or larger, or why there is none.
    """

    picture: Image.Image
    title: str
    lines: Sequence[str]
    rows: Sequence[Sequence[str]]
    columns: Sequence[Sequence[str]]
    cells: Mapping[tuple[int, int], Cell] = field(repr=False)


def contact_sheet(sheet: Sheet) -> Image.Image:
    """Draw a sheet; its legend says how it is to be read.

    Args:
        sheet: what stands on it.

    Returns:
        An RGB picture as large as its content needs.
    """
    picture = _fitted(sheet.picture.convert("RGB"))
    width, height = picture.size
    top = MARGIN + max(height, 150) + MARGIN
    across = max(MARGIN + BESIDE + len(sheet.columns) * (width + GAP) + MARGIN - GAP, MARGIN + width + 500)
    down = top + HEADING + len(sheet.rows) * (height + GAP) + MARGIN
    shown = Image.new("RGB", (across, down), PAPER)
    pen = ImageDraw.Draw(shown)
    _head(shown, pen, picture, sheet)
    pen.line((MARGIN, top - GAP, across - MARGIN, top - GAP), fill=LINE)
    ground = flattened(picture)
    for column, label in enumerate(sheet.columns):
        _label(pen, (MARGIN + BESIDE + column * (width + GAP), top + 8), label, width)
    for row, label in enumerate(sheet.rows):
        y = top + HEADING + row * (height + GAP)
        _label(pen, (MARGIN, y + 2), label, BESIDE - GAP)
        for column in range(len(sheet.columns)):
            place = (MARGIN + BESIDE + column * (width + GAP), y)
            _cell(shown, pen, place, ground, sheet.cells[row, column])
    return shown


def _fitted(picture: Image.Image) -> Image.Image:
    """The picture with its longer side as long as a cell's."""
    scale = LONGER / max(picture.size)
    width, height = (max(24, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def _font(text: str, size: int) -> Font:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        for name in _WIDER:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, style: tuple[int, tuple[int, int, int], int]
) -> int:
    """Write a text within a width, broken into lines where it must be; the height that it took."""
    size, colour, width = style
    font = _font(text, size)
    letters = max(4, int(width / max(1.0, font.getlength("n" if text.isascii() else "国"))))
    lines = wrap(text, letters) if font.getlength(text) > width else [text]
    for number, line in enumerate(lines):
        pen.text((place[0], place[1] + number * round(size * 1.3)), line, fill=colour, font=font)
    return len(lines) * round(size * 1.3)


def _label(pen: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], width: int) -> None:
    x, y = place
    for number, line in enumerate(lines):
        y += _write(pen, (x, y), line, (17, INK, width) if number == 0 else (13, FAINT, width)) + 2


def _head(shown: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image, sheet: Sheet) -> None:
    shown.paste(picture, (MARGIN, MARGIN))
    x, y = MARGIN + picture.width + MARGIN, MARGIN - 4
    room = shown.width - x - MARGIN
    y += _write(pen, (x, y), sheet.title, (26, INK, room)) + 6
    for line in sheet.lines:
        y += _write(pen, (x, y), line, (16, INK, room)) + 4
    y += 10
    ramp = Image.fromarray(np.repeat(RAMP[None], 12, axis=0)).resize((240, 12))
    shown.paste(ramp, (x, y))
    _write(pen, (x, y + 18), "little weight", (13, FAINT, 120))
    _write(pen, (x + 240 - 30, y + 18), "most", (13, FAINT, 120))
    legend = "Each map has its own scale. The ring marks its strongest place."
    _write(pen, (x, y + 40), legend, (13, FAINT, room))


def _cell(
    shown: Image.Image, pen: ImageDraw.ImageDraw, place: tuple[int, int], ground: Image.Image, cell: Cell
) -> None:
    (x, y), (width, height) = place, ground.size
    if not isinstance(cell, Undefined) and cell.max() > 0:
        shown.paste(laid_over(ground, cell), place)
        return
    said = f"No map: {cell.reason}." if isinstance(cell, Undefined) else "Empty map: no weight speaks for the class."
    pen.rectangle((x, y, x + width - 1, y + height - 1), outline=LINE)
    _write(pen, (x + 14, y + 12), said, (13, FAINT, width - 28))
