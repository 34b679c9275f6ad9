"""Files that are there whole or not at all, whenever the machine stops."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from fukusen.errors import StoreError

TEMPORARY = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary file that takes the place of ``path`` only once it is safely on the disc.

    Args:
        path: the file to be; its folder exists.

    Yields:
        A path in the same folder to write to.

    Raises:
        StoreError: the disc is full, or the folder may not be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}{TEMPORARY}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The one message about a folder that the system does not let us write to."""
    why = error.strerror or str(error)
    return StoreError(
        f"The audit folder {folder} cannot be written: {why}. Make room or choose another --out, then run the same "
        "audit command again; what is already there is kept."
    )


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut only once its folder is on the disc too; Windows has no such call.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Put text in a file, as UTF-8 with the line ends as given, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, data: object) -> None:
    """Put JSON in a file atomically; NaN and infinity are no JSON and are refused."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """What the file holds.

    Raises:
        StoreError: the system does not let us read it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(f"The file {path} cannot be read: {why}. Put it back as it was.") from error


def read_json(path: Path) -> Any:
    """What the file holds, or None where it is absent or is not JSON.

    Raises:
        StoreError: the system does not let us read it.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(read_bytes(path))
    except ValueError:
        return None


def fingerprint(path: Path) -> dict[str, Any]:
    """The size in bytes and the SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
