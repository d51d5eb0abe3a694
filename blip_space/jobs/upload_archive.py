"""The uploads of a batch, files and zips of files, as named images that are still to be read.

A zip is never unpacked to the disk: its members are read into memory one at a time, up to the size limit of an upload.
Depends on zips and names. Must not decode images, or import models.
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
"""Of a zip, folders included; each takes memory before anything is read."""

MAX_UNPACKED_BYTES = 500_000_000
MAX_RATIO = 100
"""Images are compressed already; a zip with a higher ratio is a bomb."""

MAX_NAME_CHARACTERS = 200
ENTRY_SIGNATURE = b"PK\x01\x02"
"""Begins the entry of each member in the central directory of a zip."""

STREAMED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python decompresses these in parts, and all others at once, whatever their size."""

DRIVE = re.compile(r"[A-Za-z]:(/|$)")
"""A name with a Windows drive; a colon elsewhere is a time or a title."""

NO_FILES = "There are no images yet. Add files, or a zip of them."


@contextmanager
def open_uploads(uploads: Sequence[tuple[str, Path]]) -> Iterator[list[UploadedImage]]:
    """The images of uploads, each given by its name and path; they can be read until the context ends.

    `UserError` for a file that is no zip, a zip with a password or a bomb, and for too many or no images. A rejected
    member of a zip is an image whose `read` raises.
    """
    with ExitStack() as archives:
        uploaded: list[UploadedImage] = []
        for upload_name, path in uploads:
            name = upload_name[-MAX_NAME_CHARACTERS:]
            if name.lower().endswith(".zip"):
                uploaded += _zip_members(archives.enter_context(_open_zip(name, path)))
            else:
                uploaded.append(UploadedImage(name, partial(images.read_file, path)))
        if not uploaded:
            raise UserError(NO_FILES)
        if len(uploaded) > MAX_IMAGES:
            raise UserError(
                f"These are {len(uploaded):,} files, and a batch has at most {MAX_IMAGES}. Send them in parts, or "
                "caption a whole folder on your own machine with python -m blip_space folder."
            )
        yield _with_unique_names(uploaded)


def _open_zip(name: str, path: Path) -> zipfile.ZipFile:
    if path.read_bytes().count(ENTRY_SIGNATURE) > MAX_MEMBERS:
        raise UserError(f"{name} holds more than {MAX_MEMBERS:,} files. Pack fewer into one zip.")
    try:
        archive = zipfile.ZipFile(path)
    except Exception:  # a hostile header may raise anything
        raise UserError(f"{name} is not a zip that can be read. Pack the images again, as a plain zip.") from None
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise UserError(f"{name} is protected with a password. Pack the images without one.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(MAX_UNPACKED_BYTES, max(images.MAX_UPLOAD_BYTES, MAX_RATIO * path.stat().st_size)):
        raise UserError(
            f"{name} would unpack to {unpacked / 1e6:,.0f} MB, which is too much for its size or for a batch: at most "
            f"{MAX_UNPACKED_BYTES // 1_000_000} MB. Send fewer images, or the files themselves."
        )
    return archive


def _zip_members(archive: zipfile.ZipFile) -> Iterator[UploadedImage]:
    """The files of a zip, without hidden ones."""
    members = archive.infolist()
    for member, name in zip(members, zip_names.read_names(members), strict=True):
        name = name.replace("\\", "/")
        path = PurePosixPath(name)
        if not path.name or name.endswith("/") or is_hidden(str(path)):
            continue
        rejection = _rejection(path, member)
        read = partial(_reject, rejection) if rejection else partial(_read_member, archive, member)
        yield UploadedImage(str(path)[-MAX_NAME_CHARACTERS:], read)


def _rejection(path: PurePosixPath, member: zipfile.ZipInfo) -> str | None:
    """Why a member is not read, or None."""
    if path.is_absolute() or ".." in path.parts or DRIVE.match(str(path)):
        return "Its name leads out of the zip, so it is not read. Pack it under a relative name."
    if len(str(path)) > MAX_NAME_CHARACTERS:
        return f"Its name has more than {MAX_NAME_CHARACTERS} characters. Pack it under a shorter one."
    if path.suffix.lower() == ".zip":
        return "A zip in a zip is not opened. Send it separately."
    if member.compress_type not in STREAMED_METHODS:
        return "Its compression method is not supported. Pack it again, as a plain zip."
    return None


def _reject(message: str) -> bytes:
    raise ImageError(message)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, at most one more than the limit, whatever size the zip declares."""
    try:
        with archive.open(member) as file:
            return file.read(images.MAX_UPLOAD_BYTES + 1)
    except Exception:  # a hostile entry may raise anything
        raise ImageError("It is damaged in the zip. Pack it again.") from None


def _with_unique_names(uploaded: Sequence[UploadedImage]) -> list[UploadedImage]:
    """Add numbers to equal names."""
    used: Counter[str] = Counter()
    renamed = []
    for image in uploaded:
        path, name = PurePosixPath(image.file), image.file
        while used[name]:
            used[image.file] += 1
            name = str(path.with_stem(f"{path.stem} ({used[image.file]})"))
        used[name] = 1
        renamed.append(replace(image, file=name))
    return renamed
