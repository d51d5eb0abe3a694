"""A folder's images and captions as tar shards that `webdataset` reads: each image beside its text and its record.

Depends on records and files; must not import webdataset, or anything that loads models. Behaviour: webdataset 1.0.2,
for which everything after the first dot of a name is its kind, and parts of one sample stand side by side.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from blip_space import images
from blip_space.errors import ImageError
from blip_space.jobs.durable_files import Disk
from blip_space.jobs.folder_listing import locate
from blip_space.jobs.outputs.text_format import stem
from blip_space.jobs.records import CaptionRecord

MAX_SHARD_IMAGES, SHARD_BYTES = 10_000, 1_000_000_000
"""A shard ends with whichever comes first."""

KINDS = (
    (b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"BM", "bmp"), (b"II", "tif"),
    (b"MM", "tif"),
)  # fmt: skip
"""By its first bytes, what webdataset's decoders are to take an image for, whatever its name ends with."""

FILE_CHANGED = "The file was changed while the job ran, so it is in no shard. Run the same command again."


class _Sample(NamedTuple):
    """One image: its key, and its parts, each under its kind."""

    key: str
    parts: tuple[tuple[str, bytes], ...]


def shard_name(output: Path, number: int) -> str:
    """The file of a shard: `set.tar` gives `set-000000.tar`."""
    return f"{output.name.removesuffix('.tar')}-{number:06}.tar"


def sample_keys(files: Sequence[str]) -> dict[str, str]:
    """Each file's key: its name without ending and without dots, and another for each file."""
    found: dict[str, str] = {}
    used = set[str]()
    for file in files:
        path = PurePosixPath(stem(file))
        key = base = str(path.with_name(re.sub(r"[.\\]", "_", path.name)))
        if key.startswith("__"):  # webdataset passes such names by
            key = base = f"_{base.lstrip('_')}"
        number = 2
        while key in used:
            key, number = f"{base}_{number}", number + 1
        used.add(key)
        found[file] = key
    return found


def shard_pattern(output: Path) -> re.Pattern[str]:
    """Matches the names of an output's shards."""
    return re.compile(rf"{re.escape(output.name.removesuffix('.tar'))}-\d{{6}}\.tar")


def write_shards(
    records: Sequence[CaptionRecord], folder: Path, output: Path, disk: Disk
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Write the shards; their names with their sizes, and the images that are in none with the reason. `OSError` leaves
    no half one."""
    failed = list[tuple[str, str]]()
    samples = _samples(records, folder, failed)
    sizes = dict[str, int]()
    first = next(samples, None)
    while first is not None:
        path = output.with_name(shard_name(output, len(sizes)))
        with disk.open_atomically(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
            first = _fill(tar, first, samples)
        sizes[path.name] = path.stat().st_size
    return sizes, failed


def _fill(tar: tarfile.TarFile, first: _Sample, rest: Iterator[_Sample]) -> _Sample | None:
    """Add samples until the shard is full; the one that is left over."""
    count, size, sample = 0, 0, first
    while True:
        for kind, content in sample.parts:
            part = tarfile.TarInfo(f"{sample.key}.{kind}")
            part.size = len(content)
            tar.addfile(part, io.BytesIO(content))
            size += len(content)
        count += 1
        following = next(rest, None)
        if following is None or count >= MAX_SHARD_IMAGES or size >= SHARD_BYTES:
            return following
        sample = following


def _samples(records: Sequence[CaptionRecord], folder: Path, failed: list[tuple[str, str]]) -> Iterator[_Sample]:
    named = sample_keys([record.file for record in records])
    for record in records:
        try:
            image = images.read_file(locate(folder, record.file), max_bytes=images.MAX_FILE_BYTES)
        except ImageError as error:
            failed.append((record.file, str(error)))
            continue
        if images.digest(image) != record.digest:
            failed.append((record.file, FILE_CHANGED))
            continue
        caption = (record.caption or "").encode("utf-8", "replace")
        yield _Sample(
            named[record.file], ((_kind(image), image), ("txt", caption), ("json", record.to_json_line().strip()))
        )


def _kind(image: bytes) -> str:
    if image[4:8] == b"ftyp":
        return "avif" if image[8:12] in (b"avif", b"avis") else "heic"
    return next((kind for begin, kind in KINDS if image.startswith(begin)), "bin")
