"""The photographs of the evaluation: what the list says of them, how packages are read, and how answers are counted."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from training import evaluate
from training.evaluation import gate, photographs, unseen_style
from training.evaluation.photograph_packages import PACKAGES, SCIKIT_IMAGE, fetch_photograph, read_qt_resources
from training.evaluation.photographs import Photograph, listed_photographs, photograph_counts
from training.scenes.everyday import NAMES
from training.scenes.out_of_distribution import TRAINING_FILES
from training.scenes.sources import SourceError

TINY = Path(__file__).parents[2] / "assets" / "tiny"
UNKNOWN = "I don't know this picture."


def png(mode: str, size: tuple[int, int], colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def deb(files: Mapping[str, bytes]) -> bytes:
    """A Debian package with these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    parts = [
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        for name, content in members.items()
    ]
    return b"!<arch>\n" + b"".join(parts)


def qt_resource(folder: str, name: str, content: bytes) -> bytes:
    """A Qt resource of version 1 with one folder, which holds one file compressed by zlib."""
    packed = struct.pack(">I", len(content)) + zlib.compress(content)
    contents = struct.pack(">I", len(packed)) + packed
    names = [struct.pack(">HI", len(text), 0) + text.encode("utf-16-be") for text in (folder, name)]
    root = struct.pack(">IHII", 0, 2, 1, 1)
    tree = root + struct.pack(">IHII", 0, 2, 1, 2) + struct.pack(">IHHHI", len(names[0]), 1, 0, 0, 0)
    start = 20
    positions = start, start + len(tree), start + len(tree) + len(contents)
    return b"qres" + struct.pack(">4I", 1, *positions) + tree + contents + b"".join(names)


def test_the_list_names_concepts_and_no_photograph_of_the_training_data_as_unknown() -> None:
    listed = listed_photographs()
    assert len({(one.package, one.file) for one in listed}) == len(listed)
    for one in listed:
        assert one.package in (*PACKAGES, SCIKIT_IMAGE)
        assert one.names <= set(NAMES)
        assert one.names or one.file not in TRAINING_FILES


def test_a_cut_out_is_read_from_a_debian_package_onto_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = deb({"stamps/animals/frog.png": png("RGBA", (60, 20), "green"), "stamps/animals/frog.txt": b"Frog"})
    (tmp_path / "stamps.deb").write_bytes(archive)
    pinned = replace(
        PACKAGES["tuxpaint"],
        url=(tmp_path / "stamps.deb").as_uri(),
        sha256=hashlib.sha256(archive).hexdigest(),
    )
    monkeypatch.setitem(PACKAGES, "tuxpaint", pinned)
    image = Photograph("tuxpaint", "animals/frog.png", frozenset({"frog"})).open(tmp_path / "sources")
    assert image.size == (78, 78)
    assert image.getpixel((39, 39)) == (0, 128, 0)
    assert image.getpixel((39, 5)) == (255, 255, 255)
    with pytest.raises(SourceError, match="no file"):
        fetch_photograph("tuxpaint", "animals/toad.png", tmp_path / "sources")


def test_an_archive_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.deb").write_bytes(deb({"frog.png": png("RGBA", (4, 4), "green")}))
    monkeypatch.setitem(PACKAGES, "tuxpaint", replace(PACKAGES["tuxpaint"], url=(tmp_path / "other.deb").as_uri()))
    with pytest.raises(SourceError, match="not the pinned archive"):
        fetch_photograph("tuxpaint", "frog.png", tmp_path / "sources")


def test_a_file_is_read_from_a_qt_resource() -> None:
    assert dict(read_qt_resources(qt_resource("animals", "cat.webp", b"pixels"))) == {"animals/cat.webp": b"pixels"}


def test_answers_are_counted_as_right_unknown_or_wrong() -> None:
    dog, cat = (Photograph("foolbox", f"{name}.jpg", frozenset({name})) for name in ("dog", "cat"))
    tool = Photograph("gcompris", "tools/plier1.webp", frozenset())
    stamp = Photograph(photographs.CUT_OUTS, "apple.png", frozenset({"red apple", "green apple"}))
    answers = {dog: "dog", cat: UNKNOWN, tool: "hammer", stamp: "green apple"}
    counts = {title: numbers for title, *numbers in photograph_counts(answers, UNKNOWN)}
    assert counts["whole photographs of a concept that has a class"] == [1, 1, 0, 2]
    assert counts["whole photographs of something else"] == [0, 0, 1, 1]
    assert counts["cut-out photographs of a concept that has a class"] == [1, 0, 0, 1]


def test_flat_shapes_are_not_taken_for_photographs_but_photographs_are(sources: Path) -> None:
    encoder = gate.load_gate(evaluate.load_model(TINY, sources))
    assert encoder
    shapes = [unseen_style.draw_image(5, index)[0] for index in range(32)]
    assert gate.photograph_share(encoder, shapes) == 0
    installed = [one.open(sources) for one in listed_photographs() if one.package == SCIKIT_IMAGE and one.names]
    assert gate.photograph_share(encoder, installed) == 1
