"""Lists the images of a batch upload, which has image files and zips of image files. Each image is read when needed.

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
MAX_ZIPS = 20
"""The most zips of a batch. Each is open until the batch ends."""

MAX_MEMBERS = 2_000
"""The most members that the zips of a batch may have together, folders included. `zipfile` needs memory for each before
any is read."""

MAX_UNPACKED_BYTES = 500_000_000
MAX_RATIO = 100
"""The highest ratio of unpacked to packed size. Images hardly shrink in a zip, so a higher ratio means a zip bomb."""

MAX_NAME_CHARACTERS = 200
ENTRY_SIGNATURE = b"PK\x01\x02"
"""The first bytes of each member's entry in the central directory of a zip."""

CHUNK_BYTES = 1_000_000

STREAMED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The methods that Python decompresses in parts. Data of any other is decompressed at once, whatever its size."""

DRIVE = re.compile(r"[A-Za-z]:(/|$)")
"""Matches a name that begins with a Windows drive. A colon elsewhere is allowed, as in a time or a title."""

NO_FILES = "There are no images yet. Add files, or a zip of them."


@contextmanager
def open_uploads(uploads: Sequence[tuple[str, Path]]) -> Iterator[list[UploadedImage]]:
    """The images in `uploads`, which are pairs of name and path. The images can be read until the context ends.

    Files and the members of zips are counted before any zip is opened, and a zip that is named several times is opened
    once. `UserError` if a `.zip` file is not a zip, has a password or is a zip bomb, or if there are too many images or
    none. For a rejected member of a zip there is an image whose `read` raises `ImageError`.
    """
    named = [(name[-MAX_NAME_CHARACTERS:], path) for name, path in uploads]
    _check_counts(named)
    with ExitStack() as archives:
        opened: dict[Path, zipfile.ZipFile] = {}
        uploaded: list[UploadedImage] = []
        for name, path in named:
            if not _is_zip(name):
                uploaded.append(UploadedImage(name, partial(images.read_file, path)))
                continue
            if path not in opened:
                opened[path] = archives.enter_context(_open_zip(name, path))
            uploaded += _zip_members(opened[path])
        if not uploaded:
            raise UserError(NO_FILES, detail="no_files")
        _check_image_count(len(uploaded))
        yield _with_unique_names(uploaded)


def _check_counts(uploads: Sequence[tuple[str, Path]]) -> None:
    """Raise `UserError` if there are too many files, zips or members of zips. No zip is opened for that."""
    _check_image_count(len(uploads))
    zips = [(name, path) for name, path in uploads if _is_zip(name)]
    if len(zips) > MAX_ZIPS:
        raise UserError(
            f"These are {len(zips)} zips, and a batch has at most {MAX_ZIPS}. Pack the images into fewer zips.",
            code="too_large",
            detail="zips",
            values={"limit": MAX_ZIPS},
        )
    counts: dict[Path, int] = {}
    members = 0
    for name, path in zips:
        if path not in counts:
            counts[path] = _count_members(path)
        members += counts[path]
        if members > MAX_MEMBERS:
            subject = f"{name} holds" if len(zips) == 1 else "The zips hold"
            raise UserError(
                f"{subject} more than {MAX_MEMBERS:,} files. Pack fewer into one batch.",
                code="too_large",
                detail="members",
                values={"limit": MAX_MEMBERS},
            )


def _check_image_count(count: int) -> None:
    if count > MAX_IMAGES:
        raise UserError(
            f"These are {count:,} files, and a batch has at most {MAX_IMAGES}. Send them in parts, or caption a whole "
            "folder on your own machine with python -m blip_space folder.",
            code="too_large",
            detail="files",
            values={"limit": MAX_IMAGES},
        )


def _is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def _count_members(path: Path) -> int:
    """At least as many members as the zip has: their signature may also stand in an image. 0 for a missing file."""
    count, tail = 0, b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                chunk = tail + chunk
                count += chunk.count(ENTRY_SIGNATURE)
                tail = chunk[1 - len(ENTRY_SIGNATURE) :]
    except OSError:
        return 0  # opening it will say so
    return count


def _open_zip(name: str, path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except Exception:  # a hostile header may raise anything
        raise UserError(
            f"{name} is not a zip that can be read. Pack the images again, as a plain zip.",
            detail="zip",
            values={"file": name},
        ) from None
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise UserError(
            f"{name} is protected with a password. Pack the images without one.",
            detail="password",
            values={"file": name},
        )
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    if unpacked > max(images.MAX_UPLOAD_BYTES, MAX_RATIO * packed):
        sizes = f"{unpacked / 1e6:,.0f} MB from {packed / 1e6:,.1f} MB"
        raise UserError(
            f"{name} is compressed suspiciously strongly ({sizes}). Send the images themselves.",
            code="too_large",
            detail="unpacked",
            values={"file": name},
        )
    if unpacked > MAX_UNPACKED_BYTES:
        limit = f"the limit is {MAX_UNPACKED_BYTES // 1_000_000} MB"
        raise UserError(
            f"{name} unpacks to {unpacked / 1e6:,.0f} MB; {limit}. Send fewer images at once.",
            code="too_large",
            detail="unpacked",
            values={"file": name},
        )
    return archive


def _zip_members(archive: zipfile.ZipFile) -> Iterator[UploadedImage]:
    """The members of a zip as images, without folders and hidden files."""
    members = archive.infolist()
    for member, name in zip(members, zip_names.read_names(members), strict=True):
        name = name.replace("\\", "/")
        path = PurePosixPath(name)
        if not path.name or name.endswith("/") or is_hidden(str(path)):
            continue
        rejection = _rejection(path, member)
        read = partial(_reject, *rejection) if rejection else partial(_read_member, archive, member)
        yield UploadedImage(str(path)[-MAX_NAME_CHARACTERS:], read)


def _rejection(path: PurePosixPath, member: zipfile.ZipInfo) -> tuple[str, str] | None:
    """The detail and the message that say why a member is rejected, or None if it may be read."""
    if path.is_absolute() or ".." in path.parts or DRIVE.match(str(path)):
        return "unsafe_name", "Its name leads out of the zip, so it is not read. Pack it under a relative name."
    if len(str(path)) > MAX_NAME_CHARACTERS:
        return "long_name", f"Its name has more than {MAX_NAME_CHARACTERS} characters. Pack it under a shorter one."
    if path.suffix.lower() == ".zip":
        return "nested_zip", "A zip in a zip is not opened. Send it separately."
    if member.compress_type not in STREAMED_METHODS:
        return "compression", "Its compression method is not supported. Pack it again, as a plain zip."
    return None


def _reject(detail: str, message: str) -> bytes:
    raise ImageError(message, detail=detail)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """At most `MAX_UPLOAD_BYTES` + 1 bytes of a member, whatever size the zip declares. `ImageError` if damaged."""
    try:
        with archive.open(member) as file:
            return file.read(images.MAX_UPLOAD_BYTES + 1)
    except Exception:  # a hostile entry may raise anything
        raise ImageError("It is damaged in the zip. Pack it again.", detail="damaged_zip") from None


def _with_unique_names(uploaded: Sequence[UploadedImage]) -> list[UploadedImage]:
    """The same images with unique names: the second `a.jpg` becomes `a (2).jpg`."""
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
