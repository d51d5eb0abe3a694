"""Laws of what is uploaded for a batch: pictures are found, and nothing that a zip says is believed."""

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
"""Where a zip's list says so of a member, from the beginning of its entry."""


def packed(members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def with_lie(data: bytes, place: int, value: bytes) -> bytes:
    """The zip with other bytes at that place of its first entry."""
    at = data.index(upload_archive.ENTRY_SIGNATURE) + place
    return data[:at] + value + data[at + len(value) :]


def looked_into(folder: Path, files: dict[str, bytes]) -> dict[str, bytes | str]:
    """Each picture's bytes, or the sentence that says why there are none."""
    uploads = []
    for number, (name, data) in enumerate(files.items()):
        (folder / str(number)).write_bytes(data)
        uploads.append((name, folder / str(number)))
    with upload_archive.open_uploads(uploads) as pictures:
        found: dict[str, bytes | str] = {}
        for picture in pictures:
            try:
                found[picture.file] = picture.read()
            except ImageError as error:
                found[picture.file] = str(error)
        return found


def test_files_and_zips_become_pictures_by_their_names(tmp_path: Path) -> None:
    zipped = packed({"holiday/a.png": PNG, "b.png": b"anything"})
    assert looked_into(tmp_path, {"c.png": PNG, "some.ZIP": zipped}) == {
        "c.png": PNG,
        "holiday/a.png": PNG,
        "b.png": b"anything",
    }


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    zipped = packed({"a.png": b"2", "b/a.png": b"3"})
    found = looked_into(tmp_path, {"a.png": b"1", "x.zip": zipped, "y.zip": zipped})
    assert found == {"a.png": b"1", "a (2).png": b"2", "b/a.png": b"3", "a (3).png": b"2", "b/a (2).png": b"3"}


def test_what_a_person_does_not_see_in_a_zip_is_left_out(tmp_path: Path) -> None:
    """Case hidden-folder, in a zip: what machines add is passed by, by the list that holds for folders."""
    hidden = {"holiday/": b"", "holiday/.DS_Store": b"x", "__MACOSX/holiday/._a.png": b"x", "thumbs.db": b"x"}
    hidden |= {"holiday/.ipynb_checkpoints/a.png": PNG, "@eaDir/a.png/thumb.jpg": PNG, ".hidden.png": PNG}
    assert list(looked_into(tmp_path, {"x.zip": packed({**hidden, "holiday/a.png": PNG})})) == ["holiday/a.png"]


def test_a_colon_in_a_name_leads_nowhere(tmp_path: Path) -> None:
    """Such names were refused as leading out of the zip, although only a drive at their beginning does."""
    names = {"Screenshot 12:30:01.png": PNG, "12:30/a: b.png": PNG, "C: the language.png": PNG}
    assert looked_into(tmp_path, {"x.zip": packed(names)}) == names


@pytest.mark.parametrize("encoding", ["cp932", "gbk"])
def test_names_in_the_code_page_of_the_machine_that_packed_them_are_read(tmp_path: Path, encoding: str) -> None:
    """Case zip-with-japanese-names. The second byte of 表 in code page 932 is a backslash, and separates nothing."""
    names = ["赤い丸.png", "予定表/表.png"] if encoding == "cp932" else ["红色圆圈.png", "新建文件夹/图片.png"]
    data = packed({"x" * len(name.encode(encoding)) + str(number): PNG for number, name in enumerate(names)})
    for number, name in enumerate(names):
        raw = name.encode(encoding)
        data = data.replace(b"x" * len(raw) + str(number).encode(), raw + str(number).encode())
    found = looked_into(tmp_path, {"x.zip": data})
    assert found == {f"{name}{number}": PNG for number, name in enumerate(names)}


@pytest.mark.parametrize(
    "name", ["../a.png", "holiday/../../a.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "\\\\host\\share\\a.png"]
)
def test_a_name_that_leads_out_of_the_zip_is_told_and_its_bytes_are_not_read(tmp_path: Path, name: str) -> None:
    ((shown, said),) = looked_into(tmp_path, {"x.zip": packed({name: PNG})}).items()
    assert shown == name.replace("\\", "/")
    assert "leads out of the zip" in str(said)


def test_a_zip_in_a_zip_and_an_endless_name_are_told(tmp_path: Path) -> None:
    said = looked_into(tmp_path, {"x.zip": packed({"in.zip": packed({"a.png": PNG}), "a" * 900 + ".png": PNG})})
    assert "not opened" in str(said["in.zip"])
    assert "more than 200 letters" in str(said[("a" * 900 + ".png")[-200:]])


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_cannot_be_inflated_bit_by_bit_is_not_inflated(tmp_path: Path, compression: int) -> None:
    bomb = packed({"a.png": PNG}, compression=compression)
    assert "packed in a way" in str(looked_into(tmp_path, {"x.zip": bomb})["a.png"])


def test_a_member_that_is_longer_than_it_says_is_read_no_further(tmp_path: Path) -> None:
    bomb = with_lie(packed({"a.png": b"\0" * 10_000_000}), SIZE_OF_ENTRY, struct.pack("<I", 100))
    assert "damaged in the zip" in str(looked_into(tmp_path, {"x.zip": bomb})["a.png"])


def test_a_member_longer_than_a_picture_is_read_no_further(tmp_path: Path) -> None:
    zipped = packed({"a.png": bytes(images.MAX_UPLOAD_BYTES + 1_000_000)}, compression=zipfile.ZIP_STORED)
    assert len(looked_into(tmp_path, {"x.zip": zipped})["a.png"]) == images.MAX_UPLOAD_BYTES + 1


def test_a_damaged_member_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    zipped = packed({"a.png": b"first", "b.png": b"second"}, compression=zipfile.ZIP_STORED)
    found = looked_into(tmp_path, {"x.zip": zipped.replace(b"first", b"fiasc", 1)})
    assert "damaged in the zip" in str(found["a.png"])
    assert found["b.png"] == b"second"


REFUSED = {
    "no zip": (b"I am a text", "not a zip that can be read"),
    "an empty file": (b"", "not a zip that can be read"),
    "half a zip": (packed({"a.png": PNG})[:60], "not a zip that can be read"),
    "a bad name": (with_lie(with_lie(packed({"a.png": PNG}), 46, b"\xff"), 9, b"\x08"), "not a zip that can be read"),
    "locked": (with_lie(packed({"a.png": PNG}), FLAGS_OF_ENTRY, struct.pack("<H", ENCRYPTED_BIT)), "a password"),
    "a bomb": (packed({f"{n}.png": bytes(1_000_000) for n in range(30)}), "unpack to 30 MB"),
    "a bomb by its own words": (with_lie(packed({"a.png": PNG}), SIZE_OF_ENTRY, b"\xff\xff\xff\xee"), "4,010 MB"),
    "too many members": (
        packed({f"{n}/": b"" for n in range(upload_archive.MAX_MEMBERS + 1)}),
        "more than 2,000 files",
    ),
    "too many pictures": (packed({f"{n}.png": b"" for n in range(501)}), "501 files, and a batch has at most 500"),
    "nothing": (packed({}), "no pictures yet"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_zip_that_makes_no_sense_is_refused_with_a_sentence(tmp_path: Path, kind: str) -> None:
    data, part = REFUSED[kind]
    with pytest.raises(UserError, match=part):
        looked_into(tmp_path, {"x.zip": data})


def test_no_files_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pictures yet"):
        looked_into(tmp_path, {})
