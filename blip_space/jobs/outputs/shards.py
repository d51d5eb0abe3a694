"""Tar shards for `webdataset`: each image with its caption and its record.

Depends on records and files; must not import webdataset, or anything that loads models. Behaviour: webdataset 1.0.2,
for which everything after the first dot of a name is its extension, and the parts of a sample are adjacent.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from blip_space import images
from blip_space.errors import ImageError
from blip_space.jobs.durable_files import Disk
from blip_space.jobs.folder_listing import read_image
from blip_space.jobs.outputs.text_format import stem
from blip_space.jobs.records import CaptionRecord

MAX_SHARD_IMAGES, MAX_SHARD_BYTES = 10_000, 1_000_000_000
"""A shard ends at whichever limit comes first."""

IMAGE_EXTENSIONS = (
    (b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"BM", "bmp"), (b"II", "tif"),
    (b"MM", "tif"),
)  # fmt: skip
"""The extension by which webdataset chooses a decoder, by an image's first bytes, whatever its name is."""

FILE_CHANGED = "The file was changed while the job ran, so it is in no shard. Run the same command again."


_Sample: TypeAlias = list[tuple[str, bytes]]
"""The parts of one image, with their names."""


def shard_name(output: Path, number: int) -> str:
    """The file name of a shard: `set.tar` gives `set-000000.tar`."""
    return f"{output.name.removesuffix('.tar')}-{number:06}.tar"


def sample_keys(files: Sequence[str]) -> dict[str, str]:
    """A unique key for each file: its name without extension and dots."""
    key_by_file: dict[str, str] = {}
    used = set[str]()
    for file in files:
        path = PurePosixPath(stem(file))
        key = base = str(path.with_name(re.sub(r"[.\\]", "_", path.name)))
        if key.startswith("__"):  # webdataset skips such names
            key = base = f"_{base.lstrip('_')}"
        number = 2
        while key in used:
            key, number = f"{base}_{number}", number + 1
        used.add(key)
        key_by_file[file] = key
    return key_by_file


def shard_pattern(output: Path) -> re.Pattern[str]:
    """Matches the names of the shards of an output."""
    return re.compile(rf"{re.escape(output.name.removesuffix('.tar'))}-\d{{6}}\.tar")


def write_shards(
    records: Sequence[CaptionRecord], folder: Path, output: Path, disk: Disk
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Write the shards; returns their sizes by name, and the images that are in none, each with a message. `OSError`
    leaves no incomplete shard."""
    failed = list[tuple[str, str]]()
    samples = _samples(records, folder, failed)
    sizes = dict[str, int]()
    first = next(samples, None)
    while first is not None:
        path = output.with_name(shard_name(output, len(sizes)))
        with disk.open_atomically(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
            first = _fill_shard(tar, first, samples)
        sizes[path.name] = path.stat().st_size
    return sizes, failed


def _fill_shard(tar: tarfile.TarFile, first: _Sample, rest: Iterator[_Sample]) -> _Sample | None:
    """Add samples until the shard is full; returns the first that is not in it."""
    count, size, sample = 0, 0, first
    while True:
        for name, content in sample:
            part = tarfile.TarInfo(name)
            part.size = len(content)
            tar.addfile(part, io.BytesIO(content))
            size += len(content)
        count += 1
        following = next(rest, None)
        if following is None or count >= MAX_SHARD_IMAGES or size >= MAX_SHARD_BYTES:
            return following
        sample = following


def _samples(records: Sequence[CaptionRecord], folder: Path, failed: list[tuple[str, str]]) -> Iterator[_Sample]:
    key_by_file = sample_keys([record.file for record in records])
    for record in records:
        try:
            image = read_image(folder, record.file)
        except ImageError as error:
            failed.append((record.file, str(error)))
            continue
        if images.digest(image) != record.digest:
            failed.append((record.file, FILE_CHANGED))
            continue
        key, caption = key_by_file[record.file], (record.caption or "").encode("utf-8", "replace")
        row = record.to_json_line().strip()
        yield [(f"{key}.{_image_extension(image)}", image), (f"{key}.txt", caption), (f"{key}.json", row)]


def _image_extension(image: bytes) -> str:
    if image[4:8] == b"ftyp":
        return "avif" if image[8:12] in (b"avif", b"avis") else "heic"
    return next((extension for begin, extension in IMAGE_EXTENSIONS if image.startswith(begin)), "bin")
