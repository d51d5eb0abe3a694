"""Packages whose photographs the evaluation measures on: downloaded once, verified, and never committed.

The packages' licences allow this use. Depends on the standard library only, except that scikit-image, whose files come
with it, is found where it is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from training.scenes.sources import SourceError, download

Files = Iterator[tuple[str, bytes]]
"""Paths inside a package, and the files' contents."""


@dataclass(frozen=True)
class PhotographPackage:
    """One package: its archive's address and SHA-256, a reader of its files, its licence and its authors."""

    title: str
    url: str
    sha256: str
    read: Callable[[bytes], Files]
    licence: str
    credit: str


def fetch_photograph(name: str, file: str, folder: Path) -> Path:
    """The path of one photograph. Unpacks all images of its package under `folder` if they are missing.

    Raises `SourceError` if the package cannot be downloaded, is not the pinned one, or has no such file.
    """
    root = _installed_images() if name == SCIKIT_IMAGE else _unpacked(name, folder)
    matches = [path for path in root.rglob(Path(file).name) if path.as_posix().endswith(f"/{file}")]
    if not matches:
        raise SourceError(f"{name} has no file {file}.")
    return matches[0]


def _installed_images() -> Path:
    package = importlib.util.find_spec("skimage")
    if not package or not package.origin:
        raise SourceError("scikit-image is not installed: pip install scikit-image")
    return Path(package.origin).parent / "data"


def _unpacked(name: str, folder: Path) -> Path:
    root = folder / f"photographs-{name}"
    if root.exists():
        return root
    draft = root.with_suffix(".draft")
    package = PACKAGES[name]
    for path, content in package.read(_archive(package)):
        if path.endswith((".jpg", ".png", ".webp")):
            target = draft / path.removeprefix("./")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    draft.rename(root)
    return root


def _archive(package: PhotographPackage) -> bytes:
    archive = download(package.url)
    if hashlib.sha256(archive).hexdigest() != package.sha256:
        raise SourceError(f"{package.url} is not the pinned archive; it was not used.")
    return archive


def _read_wheel(archive: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
        for name in wheel.namelist():
            yield name, wheel.read(name)


def _read_deb(archive: bytes) -> Files:
    """The files of a Debian package: an `ar` archive, whose member `data.tar.xz` holds them."""
    position = len(b"!<arch>\n")
    while position < len(archive):
        header = archive[position : position + 60]
        name, size = header[:16].decode().strip(), int(header[48:58])
        position += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(archive[position : position + size])) as data:
                for member in data:
                    content = data.extractfile(member) if member.isfile() else None
                    if content:
                        yield member.name, content.read()
        position += size + size % 2


def _read_deb_of_resources(archive: bytes) -> Files:
    """The files inside the Qt resources of a Debian package."""
    for path, content in _read_deb(archive):
        if path.endswith(".rcc"):
            yield from read_qt_resources(content)


def read_qt_resources(data: bytes) -> Files:
    """The files of a binary Qt resource (`rcc --binary`): a tree of nodes, a table of names, and the contents.

    The format is that of https://doc.qt.io/qt-6/rcc.html, versions 1 to 3; contents are plain or compressed by zlib.
    """
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    node_size = 14 if version < 2 else 22

    def walk(index: int, prefix: str) -> Files:
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", data, node)
        length = struct.unpack_from(">H", data, names + name_offset)[0]
        start = names + name_offset + 6
        path = f"{prefix}/{data[start : start + 2 * length].decode('utf-16-be')}" if index else prefix
        if flags & 2:  # a folder
            count, first = struct.unpack_from(">II", data, node + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        offset = contents + struct.unpack_from(">I", data, node + 10)[0]
        size = struct.unpack_from(">I", data, offset)[0]
        content = data[offset + 4 : offset + 4 + size]
        yield path.lstrip("/"), zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


SCIKIT_IMAGE = "scikit-image"
PACKAGES = {
    "foolbox": PhotographPackage(
        "foolbox 3.3.4 (PyPI)",
        "https://files.pythonhosted.org/packages/9f/c4/2343e1accf8cbdba957e1f190ed860969abdd83181531a936626d4d7cfd0/"
        "foolbox-3.3.4-py3-none-any.whl",
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        _read_wheel,
        "MIT; the photographs are ImageNet's",
        "twenty photographs of ImageNet",
    ),
    "gcompris": PhotographPackage(
        "gcompris-qt-data 3.1-2 (Debian)",
        "http://deb.debian.org/debian/pool/main/g/gcompris-qt/gcompris-qt-data_3.1-2_all.deb",
        "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
        _read_deb_of_resources,
        "public domain, CC-BY, CC-BY-SA, GPL: each file its own",
        "photographs of Wikimedia Commons in GCompris",
    ),
    "tuxpaint": PhotographPackage(
        "tuxpaint-stamps-default 2022.06.04-1 (Debian)",
        "http://deb.debian.org/debian/pool/main/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        _read_deb,
        "GPL-2",
        "photographs without background in Tux Paint's stamps, Bill Kendrick and others",
    ),
}
"""The packages by the name that `photographs.txt` has for them, besides scikit-image."""
