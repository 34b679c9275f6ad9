"""Pictures are listed from whatever names them, and what cannot be is refused in one sentence with its remedy."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fukusen.errors import DataError
from fukusen.records import Item
from fukusen.runner.items import ENDINGS, items_of

KNOWN = "jpg, jpeg, png, bmp, gif, webp, tif, tiff, ppm, pgm"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def named(items: tuple[Item, ...]) -> dict[str, str | None]:
    return {item.name: item.label for item in items}


def refused(images: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        items_of(images)
    return str(caught.value)


def test_a_folder_is_searched_with_its_sub_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "good/x.jpeg", "good/2024/y.webp", "bad/x.jpeg")
    found = items_of(tmp_path)
    assert named(found) == {
        "a.JPG": None,
        "b.png": None,
        "bad/x.jpeg": "bad",
        "good/2024/y.webp": "good",
        "good/x.jpeg": "good",
    }
    assert [item.name for item in found] == sorted(item.name for item in found)
    assert all(Path(item.path) == tmp_path / item.name for item in found)


def test_every_usual_ending_counts_and_nothing_else(tmp_path: Path) -> None:
    pictures = {f"p{number}{ending}" for number, ending in enumerate(sorted(ENDINGS))}
    touch(tmp_path, *pictures, "notes.txt", "Thumbs.db", ".hidden.png", ".cache/a.png", "jpg", "a.jpg.part")
    assert {item.name for item in items_of(tmp_path)} == pictures


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png", "elsewhere/b.png")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "lost.png").symlink_to(tmp_path / "gone.png")
    assert named(items_of(tmp_path / "photos")) == {"a.png": None, "lost.png": None, "more/b.png": "more"}


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert named(items_of(tmp_path)) == {"a.png": None}


def test_names_of_any_bytes_can_be_stored_and_opened(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", "日本 語.png".encode(), b"new\nline.png", b"caf\\udce9.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    found = items_of(tmp_path)
    assert [item.name for item in found] == ["caf\\udce9.png", "caf\\udce9.png (2)", "new\nline.png", "日本 語.png"]
    for item in found:
        item.name.encode()
        assert Path(item.path).read_bytes() == b"x"


def test_a_glob_takes_what_it_matches(tmp_path: Path) -> None:
    touch(tmp_path, "good/a.png", "good/b.txt", "bad/c.png", "good/deep/d.png")
    assert named(items_of(f"{tmp_path}/*/*")) == {"bad/c.png": "bad", "good/a.png": "good"}
    assert named(items_of(f"{tmp_path}/good/*.png")) == {"a.png": None}
    assert named(items_of(f"{tmp_path}/**/*.png")) == {
        "bad/c.png": "bad",
        "good/a.png": "good",
        "good/deep/d.png": "good",
    }


def test_a_folder_may_be_called_like_a_glob(tmp_path: Path) -> None:
    touch(tmp_path / "set [1]", "a.png")
    assert named(items_of(tmp_path / "set [1]")) == {"a.png": None}


def test_a_picture_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert items_of(tmp_path / "a.png") == (Item("a.png", str(tmp_path / "a.png")),)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_lists_paths_and_labels(tmp_path: Path, separator: str, encoding: str) -> None:
    touch(tmp_path, "data/ü, 1.png", "elsewhere/b.png")
    table = tmp_path / "data" / "list.csv"
    with table.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["label", " path", "note"])
        writer.writerow(["1", "ü, 1.png", ""])
        writer.writerow(["", "../elsewhere/b.png", "x"])
        writer.writerows([["2", "missing.png"], [], ["1", "./ü, 1.png"]])
        writer.writerow(["3", str(tmp_path / "data" / "whole.png"), ""])
    found = items_of(table)
    assert named(found) == {"../elsewhere/b.png": None, "missing.png": "2", "whole.png": "3", "ü, 1.png": "1"}
    assert [Path(item.path).exists() for item in found] == [True, False, False, True]


def test_a_parquet_file_lists_paths_and_labels(tmp_path: Path) -> None:
    table = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": ["b.png", "a.png"], "label": [1.0, None], "size": [1, 2]}), table)
    assert named(items_of(str(table))) == {"a.png": None, "b.png": "1"}
    pq.write_table(pa.table({"path": pa.array(["b.png"]).dictionary_encode()}), table)
    assert named(items_of(table)) == {"b.png": None}


def test_the_demo_is_real_photographs(imagenet_paths: tuple[Path, ...]) -> None:
    found = items_of("demo")
    assert len(found) == 24
    assert [Path(item.path) for item in found if item.label] == list(imagenet_paths)
    assert all(item.label == Path(item.path).stem.split("_")[-1] for item in found if item.label)
    assert [item.name for item in found if not item.label] == [
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
    ]
    assert all(Path(item.path).is_file() for item in found)


def test_the_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert refused("demo") == (
        "The demo's photographs are missing: the package 'foolbox' is not installed. Install it with: "
        "pip install 'fukusen[demo]'"
    )


@pytest.mark.parametrize("images", ["no/such/place", "", "no\0such", "~nobody-of-that-name/photos", "a.png/b"])
def test_a_place_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str) -> None:
    monkeypatch.chdir(touch(tmp_path, "a.png"))
    assert refused(images) == (
        f"There is no file or folder {images!r}. Name a folder of pictures, a glob, a CSV or Parquet file with a "
        "column 'path', or demo."
    )


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("empty", f"There is no picture in empty or its sub-folders. Name a folder that has some ({KNOWN})."),
        ("texts", f"There is no picture in texts or its sub-folders. Name a folder that has some ({KNOWN})."),
        ("no/*.png", "The glob no/*.png matches nothing. Put it in quotes, and check it with: ls no/*.png"),
        (
            "texts/*",
            (
                "The glob texts/* matches only files that do not end like pictures. Put it in quotes, and check it "
                "with: ls texts/*"
            ),
        ),
        ("*", "The glob * matches folders and no picture. Name the folder above them instead."),
        (
            "texts/a.txt",
            (
                f"The file texts/a.txt is neither a picture ({KNOWN}) nor a CSV or Parquet file with a column 'path'. "
                "Name one of these, or a folder."
            ),
        ),
    ],
)
def test_nothing_to_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str, said: str) -> None:
    monkeypatch.chdir(touch(tmp_path, "texts/a.txt", "empty/.hidden.png"))
    assert refused(images) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The table list.csv has no column 'path'. Its columns: none. Rename the one with the files."),
        (b"path,label\n\n", "The table list.csv has no rows. List one picture a row in its column 'path'."),
        (
            b"file,class\na.png,1\n",
            "The table list.csv has no column 'path'. Its columns: 'file', 'class'. Rename the one with the files.",
        ),
        (b"path,label\na.png,1\n,2\n", "Row 2 of list.csv has no path. Fill it in, or take the row out."),
        (b"path\na\0.png\n", "Row 1 of list.csv has no path. Fill it in, or take the row out."),
        (
            b"path\ncaf\xe9.png\n",
            "The table list.csv cannot be read: byte 9 is not UTF-8. Save it as CSV in UTF-8 or as Parquet.",
        ),
        (
            b"path,label\na.png,1\n./a.png,2\n",
            "The picture a.png is listed twice, with the labels '1' and '2'. Keep one of them.",
        ),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_bytes(content)
    assert refused("list.csv") == said


def test_a_parquet_file_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("torn.parquet").write_bytes(b"PAR1 and no more")
    said = refused("torn.parquet")
    assert said.startswith("The table torn.parquet cannot be read: ")
    assert said.endswith(". Save it as CSV in UTF-8 or as Parquet.")
    pq.write_table(pa.table({"file": ["a.png"]}), "list.parquet")
    assert refused("list.parquet") == (
        "The table list.parquet has no column 'path'. Its columns: 'file'. Rename the one with the files."
    )


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png")

    def locked(_path: str, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "scandir", locked)
    assert refused(tmp_path) == (
        f"The folder {tmp_path} cannot be read: Permission denied. Make it readable, or name another."
    )
