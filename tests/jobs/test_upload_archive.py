"""The uploads of a batch: images are found, and nothing that a zip declares is trusted."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from blip_space import images
from blip_space.errors import ImageError, UserError
from blip_space.jobs import upload_archive
from tests.example_images import blue_circles

PNG = blue_circles()
ENCRYPTED_BIT = 1
FLAGS_OF_ENTRY, SIZE_OF_ENTRY = 8, 24
"""Offsets in the entry of a member in the central directory of a zip."""


def pack(members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_field(data: bytes, offset: int, value: bytes) -> bytes:
    """The zip with other bytes at an offset of its first entry."""
    start = data.index(upload_archive.ENTRY_SIGNATURE) + offset
    return data[:start] + value + data[start + len(value) :]


def read_uploads(folder: Path, files: dict[str, bytes]) -> dict[str, bytes | str]:
    """The bytes of each image, or its error message."""
    uploads = []
    for number, (name, data) in enumerate(files.items()):
        (folder / str(number)).write_bytes(data)
        uploads.append((name, folder / str(number)))
    with upload_archive.open_uploads(uploads) as images_found:
        contents: dict[str, bytes | str] = {}
        for image in images_found:
            try:
                contents[image.file] = image.read()
            except ImageError as error:
                contents[image.file] = str(error)
        return contents


def test_files_and_members_of_zips_become_named_images(tmp_path: Path) -> None:
    zipped = pack({"holiday/a.png": PNG, "b.png": b"anything"})
    assert read_uploads(tmp_path, {"c.png": PNG, "some.ZIP": zipped}) == {
        "c.png": PNG,
        "holiday/a.png": PNG,
        "b.png": b"anything",
    }


def test_equal_names_are_numbered(tmp_path: Path) -> None:
    zipped = pack({"a.png": b"2", "b/a.png": b"3"})
    found = read_uploads(tmp_path, {"a.png": b"1", "x.zip": zipped, "y.zip": zipped})
    assert found == {"a.png": b"1", "a (2).png": b"2", "b/a.png": b"3", "a (3).png": b"2", "b/a (2).png": b"3"}


def test_hidden_files_in_a_zip_are_left_out(tmp_path: Path) -> None:
    """Case hidden-folder, in a zip: the same names are hidden as in folders."""
    hidden = {"holiday/": b"", "holiday/.DS_Store": b"x", "__MACOSX/holiday/._a.png": b"x", "thumbs.db": b"x"}
    hidden |= {"holiday/.ipynb_checkpoints/a.png": PNG, "@eaDir/a.png/thumb.jpg": PNG, ".hidden.png": PNG}
    assert list(read_uploads(tmp_path, {"x.zip": pack({**hidden, "holiday/a.png": PNG})})) == ["holiday/a.png"]


def test_a_colon_in_a_name_is_allowed(tmp_path: Path) -> None:
    """Such names were rejected as leading out of the zip, which only a drive at the beginning does."""
    names = {"Screenshot 12:30:01.png": PNG, "12:30/a: b.png": PNG, "C: the language.png": PNG}
    assert read_uploads(tmp_path, {"x.zip": pack(names)}) == names


@pytest.mark.parametrize("encoding", ["cp932", "gbk"])
def test_names_in_the_code_page_of_the_machine_that_packed_them_are_read(tmp_path: Path, encoding: str) -> None:
    """Case zip-with-japanese-names. The second byte of 表 in code page 932 is a backslash, and separates nothing."""
    names = ["赤い丸.png", "予定表/表.png"] if encoding == "cp932" else ["红色圆圈.png", "新建文件夹/图片.png"]
    data = pack({"x" * len(name.encode(encoding)) + str(number): PNG for number, name in enumerate(names)})
    for number, name in enumerate(names):
        raw = name.encode(encoding)
        data = data.replace(b"x" * len(raw) + str(number).encode(), raw + str(number).encode())
    found = read_uploads(tmp_path, {"x.zip": data})
    assert found == {f"{name}{number}": PNG for number, name in enumerate(names)}


@pytest.mark.parametrize(
    "name", ["../a.png", "holiday/../../a.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "\\\\host\\share\\a.png"]
)
def test_a_name_that_leads_out_of_the_zip_is_rejected_and_not_read(tmp_path: Path, name: str) -> None:
    ((shown_name, message),) = read_uploads(tmp_path, {"x.zip": pack({name: PNG})}).items()
    assert shown_name == name.replace("\\", "/")
    assert "leads out of the zip" in str(message)


def test_a_zip_in_a_zip_and_a_very_long_name_are_rejected(tmp_path: Path) -> None:
    messages = read_uploads(tmp_path, {"x.zip": pack({"in.zip": pack({"a.png": PNG}), "a" * 900 + ".png": PNG})})
    assert "not opened" in str(messages["in.zip"])
    assert "more than 200 characters" in str(messages[("a" * 900 + ".png")[-200:]])


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_cannot_be_decompressed_in_parts_is_rejected(tmp_path: Path, compression: int) -> None:
    bomb = pack({"a.png": PNG}, compression=compression)
    assert "compression method is not supported" in str(read_uploads(tmp_path, {"x.zip": bomb})["a.png"])


def test_a_member_that_is_longer_than_declared_is_read_up_to_the_limit(tmp_path: Path) -> None:
    bomb = with_field(pack({"a.png": b"\0" * 10_000_000}), SIZE_OF_ENTRY, struct.pack("<I", 100))
    assert "damaged in the zip" in str(read_uploads(tmp_path, {"x.zip": bomb})["a.png"])


def test_a_member_beyond_the_size_limit_is_read_one_byte_further(tmp_path: Path) -> None:
    zipped = pack({"a.png": bytes(images.MAX_UPLOAD_BYTES + 1_000_000)}, compression=zipfile.ZIP_STORED)
    assert len(read_uploads(tmp_path, {"x.zip": zipped})["a.png"]) == images.MAX_UPLOAD_BYTES + 1


def test_a_damaged_member_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    zipped = pack({"a.png": b"first", "b.png": b"second"}, compression=zipfile.ZIP_STORED)
    found = read_uploads(tmp_path, {"x.zip": zipped.replace(b"first", b"fiasc", 1)})
    assert "damaged in the zip" in str(found["a.png"])
    assert found["b.png"] == b"second"


REFUSED = {
    "no zip": (b"I am a text", "not a zip that can be read"),
    "an empty file": (b"", "not a zip that can be read"),
    "half a zip": (pack({"a.png": PNG})[:60], "not a zip that can be read"),
    "a bad name": (with_field(with_field(pack({"a.png": PNG}), 46, b"\xff"), 9, b"\x08"), "not a zip that can be read"),
    "locked": (with_field(pack({"a.png": PNG}), FLAGS_OF_ENTRY, struct.pack("<H", ENCRYPTED_BIT)), "a password"),
    "a bomb": (pack({f"{n}.png": bytes(1_000_000) for n in range(30)}), "suspiciously strongly"),
    "a declared bomb": (with_field(pack({"a.png": PNG}), SIZE_OF_ENTRY, b"\xff\xff\xff\xee"), "4,010 MB"),
    "too many members": (
        pack({f"{n}/": b"" for n in range(upload_archive.MAX_MEMBERS + 1)}),
        "more than 2,000 files",
    ),
    "too many images": (pack({f"{n}.png": b"" for n in range(501)}), "501 files, and a batch has at most 500"),
    "nothing": (pack({}), "no images yet"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_invalid_zip_is_refused_with_a_message(tmp_path: Path, kind: str) -> None:
    data, part = REFUSED[kind]
    with pytest.raises(UserError, match=part):
        read_uploads(tmp_path, {"x.zip": data})


def test_no_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images yet"):
        read_uploads(tmp_path, {})
