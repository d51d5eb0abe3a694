"""The files of a batch are counted before any zip is opened, and a zip that is named many times is opened once."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from blip_space.errors import UserError
from blip_space.jobs import upload_archive
from blip_space.jobs.upload_archive import MAX_IMAGES, MAX_MEMBERS, MAX_ZIPS, open_uploads


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the zips that were opened."""
    names: list[str] = []
    open_zip = upload_archive._open_zip

    def count(name: str, path: Path) -> zipfile.ZipFile:
        names.append(name)
        return open_zip(name, path)

    monkeypatch.setattr(upload_archive, "_open_zip", count)
    return names


def write_zip(path: Path, members: int) -> Path:
    """A zip with this many small members."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(members):
            archive.writestr(f"{number}.png", b"an image")
    return path


def test_a_zip_that_is_named_many_times_is_opened_once(tmp_path: Path, opened: list[str]) -> None:
    path = write_zip(tmp_path / "x.zip", 2)
    with open_uploads([("x.zip", path)] * 3) as images:
        assert [image.file for image in images] == [f"{n}{copy}.png" for copy in ("", " (2)", " (3)") for n in (0, 1)]
        assert {image.read() for image in images} == {b"an image"}
    assert opened == ["x.zip"]


@pytest.mark.parametrize(("uploads", "members", "sentence"), [
    (MAX_IMAGES + 1, 1, f"These are {MAX_IMAGES + 1} files, and a batch has at most"),
    (MAX_ZIPS + 1, 1, f"These are {MAX_ZIPS + 1} zips, and a batch has at most"),
    (MAX_ZIPS, MAX_MEMBERS // MAX_ZIPS + 1, "The zips hold more than 2,000 files"),
])  # fmt: skip
def test_what_is_too_much_is_counted_before_a_zip_is_opened(
    tmp_path: Path, opened: list[str], uploads: int, members: int, sentence: str
) -> None:
    path = write_zip(tmp_path / "x.zip", members)
    with pytest.raises(UserError, match=sentence) as raised, open_uploads([("x.zip", path)] * uploads):
        pass
    assert raised.value.code == "too_large"
    assert not opened


def test_different_zips_are_counted_together(tmp_path: Path, opened: list[str]) -> None:
    zips = [(f"{n}.zip", write_zip(tmp_path / f"{n}.zip", MAX_MEMBERS // 2 + 1)) for n in range(2)]
    with pytest.raises(UserError, match="The zips hold"), open_uploads(zips):
        pass
    assert not opened


@pytest.mark.parametrize("chunk", [1, 3, 50, 10**6])
def test_members_are_counted_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(upload_archive, "CHUNK_BYTES", chunk)
    assert upload_archive._count_members(write_zip(tmp_path / "x.zip", 5)) == 5


def test_a_missing_zip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a zip that can be read"), open_uploads([("x.zip", tmp_path / "x")]):
        pass
