"""What a visitor uploaded for a batch, files and zips of files, as named pictures that are still to be read.

A zip is never unpacked: its members are read one at a time into memory, no further than a picture may be long, and
their names are shown and written nowhere. Knows zips and names; knows no model, and of pictures only how long they may
be.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from blip_space import images
from blip_space.errors import ImageError, UserError
from blip_space.jobs import zip_names
from blip_space.jobs.hidden_names import is_hidden
from blip_space.jobs.upload_job import UploadedImage

MAX_IMAGES = 500
MAX_MEMBERS = 2_000
"""Of a zip, folders and all; each takes memory before anything of it is read."""

MOST_UNPACKED_BYTES = 500_000_000
MOST_RATIO = 100
"""Pictures are compressed already; what grows more than so many times is made to fill a memory."""

MOST_LETTERS = 200
ENTRY_SIGNATURE = b"PK\x01\x02"
"""Begins each member's entry in a zip's list of them."""

INFLATES = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python inflates these bit by bit, and others as a whole, however large."""

DRIVE = re.compile(r"[A-Za-z]:(/|$)")
"""How a name with a drive of Windows begins; a colon elsewhere is a time or a title."""

NO_FILES = "There are no pictures yet. Add files, or a zip of them."


@contextmanager
def open_uploads(uploads: Sequence[tuple[str, Path]]) -> Iterator[list[UploadedImage]]:
    """The pictures of these files, each a name and where it lies; they can be read until the context ends.

    `UserError` for what is no zip, is locked or a bomb, and for too many or no pictures. What a zip holds beside
    pictures is a picture that says why it is not read.
    """
    with ExitStack() as archives:
        pictures: list[UploadedImage] = []
        for own_name, path in uploads:
            name = own_name[-MOST_LETTERS:]
            if name.lower().endswith(".zip"):
                pictures += _members(archives.enter_context(_open(name, path)))
            else:
                pictures.append(UploadedImage(name, partial(images.read_file, path)))
        if not pictures:
            raise UserError(NO_FILES)
        if len(pictures) > MAX_IMAGES:
            raise UserError(
                f"These are {len(pictures):,} files, and a batch has at most {MAX_IMAGES}. Send them in parts, or "
                "caption a whole folder on your own machine with python -m blip_space folder."
            )
        yield _by_different_names(pictures)


def _open(name: str, path: Path) -> zipfile.ZipFile:
    if path.read_bytes().count(ENTRY_SIGNATURE) > MAX_MEMBERS:
        raise UserError(f"{name} holds more than {MAX_MEMBERS:,} files. Pack fewer into one zip.")
    try:
        archive = zipfile.ZipFile(path)
    except Exception:  # a hostile header may raise anything
        raise UserError(f"{name} is not a zip that can be read. Pack the pictures again, as a plain zip.") from None
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise UserError(f"{name} is locked with a password. Pack the pictures without one.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(MOST_UNPACKED_BYTES, max(images.MAX_UPLOAD_BYTES, MOST_RATIO * path.stat().st_size)):
        raise UserError(
            f"{name} would unpack to {unpacked / 1e6:,.0f} MB, which is too much for its size or for a batch: at most "
            f"{MOST_UNPACKED_BYTES // 1_000_000} MB. Send fewer pictures, or the files themselves."
        )
    return archive


def _members(archive: zipfile.ZipFile) -> Iterator[UploadedImage]:
    """What a person sees in a zip, without the folders and what machines add to them."""
    members = archive.infolist()
    for member, name in zip(members, zip_names.read_names(members), strict=True):
        name = name.replace("\\", "/")
        path = PurePosixPath(name)
        if not path.name or name.endswith("/") or is_hidden(str(path)):
            continue
        fault = _fault(path, member)
        yield UploadedImage(
            str(path)[-MOST_LETTERS:], partial(_refuse, fault) if fault else partial(_read, archive, member)
        )


def _fault(path: PurePosixPath, member: zipfile.ZipInfo) -> str | None:
    """Why a member is not read."""
    if path.is_absolute() or ".." in path.parts or DRIVE.match(str(path)):
        return "Its name leads out of the zip, so it is not read. Pack it by its own name."
    if len(str(path)) > MOST_LETTERS:
        return f"Its name has more than {MOST_LETTERS} letters. Pack it by a shorter one."
    if path.suffix.lower() == ".zip":
        return "A zip in a zip is not opened. Send it by itself."
    if member.compress_type not in INFLATES:
        return "It is packed in a way that is not read. Pack it again, as a plain zip."
    return None


def _refuse(sentence: str) -> bytes:
    raise ImageError(sentence)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, or one more than are ever decoded, whatever the zip says of its length."""
    try:
        with archive.open(member) as file:
            return file.read(images.MAX_UPLOAD_BYTES + 1)
    except Exception:  # a hostile entry may raise anything
        raise ImageError("It is damaged in the zip. Pack it again.") from None


def _by_different_names(pictures: Sequence[UploadedImage]) -> list[UploadedImage]:
    """Two files of one name get a number, so that each is known by its own."""
    used: Counter[str] = Counter()
    named = []
    for picture in pictures:
        path, name = PurePosixPath(picture.file), picture.file
        while used[name]:
            used[picture.file] += 1
            name = str(path.with_stem(f"{path.stem} ({used[picture.file]})"))
        used[name] = 1
        named.append(replace(picture, file=name))
    return named
