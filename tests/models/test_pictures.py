"""Every kind of picture file, good and bad; a warning would fail these tests."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fukusen.errors import DataError
from fukusen.models import open_picture
from fukusen.models.pictures import as_rgb

Bad = Callable[[Path], None]


@pytest.fixture
def colours() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def _big_header(path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def _rather_big(path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(path, "PNG")


def _cut_off(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


def _nan(path: Path) -> None:
    values = np.full((16, 16), 0.5, np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(path, "TIFF")


def _postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n")


BAD: dict[str, tuple[Bad, str]] = {
    "missing": (lambda _: None, r"there is no such file"),
    "empty": (lambda path: path.touch(), r"the file is empty"),
    "folder": (lambda path: path.mkdir(), r"it is a folder, not a picture"),
    "text": (
        lambda path: path.write_text("not a picture") and None,
        r"it is not a picture in a format that can be read",
    ),
    "cut off": (_cut_off, r"it cannot be read \(image file is truncated.*\)"),
    "one pixel": (
        lambda path: Image.new("RGB", (1, 1)).save(path, "PNG"),
        r"it is 1 x 1 pixels; at least 8 a side are needed",
    ),
    "not finite": (_nan, r"it holds pixel values that are not finite"),
    "bomb": (_big_header, r"it is too large to open safely \(.*3600000000 pixels.*\)"),
    "large": (_rather_big, r"it is too large to open safely \(90000000 pixels, at most \d+ are read\)"),
    "program": (_postscript, r"it is a program that draws a picture \(EPS\); save it as PNG"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=list(BAD))
def test_bad_files_give_one_sentence(tmp_path: Path, make: Bad, message: str) -> None:
    path = tmp_path / "picture.png"
    make(path)
    with pytest.raises(DataError) as caught:
        open_picture(path)
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


def test_rgb_comes_back_as_it_is(tmp_path: Path, colours: Image.Image) -> None:
    colours.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert opened.mode == "RGB"
    assert (_pixels(opened) == _pixels(colours)).all()


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    opened = open_picture(tmp_path / "a.jpg")
    assert opened.mode == "RGB"
    assert np.abs(_pixels(opened) - [200, 40, 40]).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(tmp_path: Path, kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a", kind)
    grey = _pixels(open_picture(tmp_path / "a"))[..., 0]
    assert (grey == np.arange(256).reshape(16, 16)).all()


def test_a_nearly_black_sixteen_bit_picture_stays_black(tmp_path: Path) -> None:
    Image.fromarray(np.ones((16, 16), np.uint16)).save(tmp_path / "a.png")
    assert _pixels(open_picture(tmp_path / "a.png")).max() == 0


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
def test_float_pictures_on_every_usual_scale(tmp_path: Path, full: float) -> None:
    values = np.linspace(0, full, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    grey = _pixels(open_picture(tmp_path / "a.tif"))[..., 0]
    assert np.abs(grey - np.arange(256).reshape(16, 16)).max() <= 1


def test_integers_beyond_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    values = np.linspace(0, 2**24, 256).astype(np.int32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    grey = _pixels(open_picture(tmp_path / "a.tif"))[..., 0]
    assert len(np.unique(grey)) == 256


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (16, 16), (10, 20, 30, 0)).convert(mode)
    assert (_pixels(as_rgb(clear)) == 255).all()


def test_palette_with_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (16, 16), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    opened = open_picture(tmp_path / "a.png")
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((5, 5)) == (200, 100, 50)


def test_rotated_by_its_notes(tmp_path: Path, colours: Image.Image) -> None:
    notes = Image.Exif()
    notes[274] = 6
    colours.save(tmp_path / "a.png", exif=notes)
    opened = open_picture(tmp_path / "a.png")
    assert opened.size == (24, 32)
    assert (_pixels(opened) == _pixels(colours.transpose(Image.Transpose.ROTATE_270))).all()


def test_damaged_notes_do_not_damage_the_picture(tmp_path: Path, colours: Image.Image) -> None:
    colours.save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert (_pixels(open_picture(tmp_path / "a.png")) == _pixels(colours)).all()


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_picture(tmp_path / "a.gif").getpixel((5, 5)) == (255, 0, 0)


def test_the_picture_given_is_not_changed(colours: Image.Image) -> None:
    before = colours.tobytes()
    as_rgb(colours).putpixel((0, 0), (1, 2, 3))
    assert colours.tobytes() == before
