"""The pictures of an audit, listed from whatever names them: a folder, a glob, a table, one file, or the demo."""

from __future__ import annotations

import glob
import importlib.util
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from fukusen.errors import DataError
from fukusen.records import Item
from fukusen.runner.tables import TABLES, rows_of

_KNOWN = "jpg, jpeg, png, bmp, gif, webp, tif, tiff, ppm, pgm"
ENDINGS = frozenset(f".{ending}" for ending in _KNOWN.split(", "))
_MAGIC = frozenset("*?[")
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def items_of(images: str | Path) -> tuple[Item, ...]:
    """List pictures, without opening one.

    Args:
        images: a folder, searched with all its sub-folders, the first of which is the label; a glob; a CSV or Parquet
            file with a column ``path``, relative to the file's folder, and if need be one ``label``; one picture; or
            the string ``"demo"``, real photographs out of installed packages. Hidden files are left out, and so is
            whatever does not end like a picture, unless a table names it.

    Returns:
        One item a picture, by name; no two have the same name.

    Raises:
        DataError: there is no such place, or no picture in it; the message says what to do.
    """
    if images == "demo":
        return _named(_demo())
    asked = os.path.expanduser(images)  # noqa: PTH111 - Path's own raises where there is no such user
    mode = _mode(Path(asked)) if asked else None
    if mode is not None:
        return _in_folder(Path(asked)) if stat.S_ISDIR(mode) else _in_file(Path(asked))
    if _MAGIC & set(asked):
        return _matching(asked)
    raise DataError(
        f"There is no file or folder {storable(str(images))!r}. Name a folder of pictures, a glob, a CSV or Parquet "
        "file with a column 'path', or demo."
    )


def storable(text: str) -> str:
    r"""The text with the undecodable bytes of a file's name written out, so that every format can hold it.

    Example:
        >>> storable("caf\udce9.jpg")
        'caf\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _mode(path: Path) -> int | None:
    """What kind of thing lies there; None where nothing does."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        shown = storable(str(path))
        raise DataError(f"{shown} cannot be read: {error.strerror}. Make it readable, or name another.") from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _is_readable_kind(path: Path) -> bool:
    """Whether it is a file, or a link to nothing, which becomes a failed item; a pipe would never end."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _in_folder(folder: Path) -> tuple[Item, ...]:
    found = [path for path in _walk(folder) if _is_picture(path) and _is_readable_kind(path)]
    if not found:
        raise DataError(
            f"There is no picture in {storable(str(folder))} or its sub-folders. Name a folder that has some "
            f"({_KNOWN})."
        )
    return _named(_beneath(folder, found))


def _in_file(path: Path) -> tuple[Item, ...]:
    if path.suffix.lower() in TABLES:
        rows = rows_of(path)
        return _named((_inside(path.parent, Path(listed)), path.parent / listed, label) for listed, label in rows)
    if _is_picture(path) and _is_readable_kind(path):
        return _named([(path.name, path, None)])
    raise DataError(
        f"The file {storable(str(path))} is neither a picture ({_KNOWN}) nor a CSV or Parquet file with a column "
        "'path'. Name one of these, or a folder."
    )


def _matching(pattern: str) -> tuple[Item, ...]:
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if _MAGIC & set(part))
    base = Path(*parts[:fixed])
    matches = sorted({Path(match) for match in glob.iglob(pattern, recursive=True)})  # noqa: PTH207 - skips hidden files
    found = [path for path in matches if _is_picture(path) and not path.is_dir() and _is_readable_kind(path)]
    if found:
        return _named(_beneath(base, found))
    shown = storable(pattern)
    if any(path.is_dir() for path in matches):
        raise DataError(f"The glob {shown} matches folders and no picture. Name the folder above them instead.")
    said = "only files that do not end like pictures" if matches else "nothing"
    raise DataError(f"The glob {shown} matches {said}. Put it in quotes, and check it with: ls {shown}")


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder that is not hidden; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise DataError(
            f"The folder {storable(str(error.filename))} cannot be read: {error.strerror}. Make it readable, or name "
            "another."
        )

    for here, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        known = Path(here).stat()
        if (known.st_dev, known.st_ino) in seen:
            folders.clear()
            continue
        seen.add((known.st_dev, known.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in files if not name.startswith("."))


def _beneath(base: Path, found: Iterable[Path]) -> Iterator[tuple[str, Path, str | None]]:
    """Name, path and label of pictures below a folder; its sub-folders are the labels."""
    for path in found:
        inside = path.relative_to(base)
        yield inside.as_posix(), path, inside.parts[0] if len(inside.parts) > 1 else None


def _inside(folder: Path, listed: Path) -> str:
    """A listed path as it is seen from the table's folder, without detours; left whole where it lies elsewhere."""
    path = Path(os.path.normpath(listed))
    root = Path(os.path.normpath(folder.absolute()))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _named(found: Iterable[tuple[str, Path, str | None]]) -> tuple[Item, ...]:
    """Items in the order of their names, each name of its own; a picture that is listed twice alike is taken once."""
    taken: dict[str, Item] = {}
    for name, path, label in sorted(found, key=lambda one: (one[0], str(one[1]), one[2] or "")):
        item = Item(storable(name), str(path), None if label is None else storable(label))
        other = taken.get(item.name)
        if other is None:
            taken[item.name] = item
        elif os.path.normpath(other.path) != os.path.normpath(item.path):
            free = next(f"{item.name} ({n})" for n in range(2, len(taken) + 3) if f"{item.name} ({n})" not in taken)
            taken[free] = Item(free, item.path, item.label)
        elif other.label != item.label:
            raise DataError(
                f"The picture {item.name} is listed twice, with the labels {other.label!r} and {item.label!r}. Keep "
                "one of them."
            )
    return tuple(taken[name] for name in sorted(taken))


def _demo() -> Iterator[tuple[str, Path, str | None]]:
    """Twenty labelled ImageNet photographs and four unlabelled ones, found without importing their packages."""
    for path in sorted(_data_of("foolbox").glob("imagenet_*.jpg")):
        yield path.name, path, path.stem.rpartition("_")[2]
    folder = _data_of("skimage")
    yield from ((name, folder / name, None) for name in _PHOTOGRAPHS)


def _data_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"
    if folder is None or not folder.is_dir():
        raise DataError(
            f"The demo's photographs are missing: the package {package!r} is not installed. Install it with: "
            "pip install 'fukusen[demo]'"
        )
    return folder
