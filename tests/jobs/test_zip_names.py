"""The names in zips are read as they were on the machine that pack them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from blip_space.jobs.zip_names import guess_encoding, read_names

NAMES: dict[str, tuple[str, list[str]]] = {
    "Japanese": ("cp932", ["赤い丸.png"]),
    "Japanese, with a second byte that is a backslash": ("cp932", ["表示/ソース 十.png", "能力表.jpg"]),
    "Japanese katakana": ("cp932", ["スクリーンショット 2024-05-01.png", "カメラ.jpg"]),
    "Japanese kanji": ("cp932", ["写真/新規作成.png"]),
    "Japanese hiragana": ("cp932", ["さくら.jpg"]),
    "Japanese, mixed with ASCII": ("cp932", ["IMG_0001.JPG", "猫2.png", "旅行photo.png"]),
    "simplified": ("gbk", ["新建文件夹/图片1.png", "微信截图_20240501.png"]),
    "simplified, one word": ("gbk", ["红色圆圈.png"]),
    "simplified, a short word": ("gbk", ["猫.jpg"]),
    "simplified, travel": ("gbk", ["北京故宫.jpg", "上海外滩.jpg", "西湖.jpg"]),
    "traditional": ("cp950", ["新增資料夾/圖片1.png", "螢幕擷取畫面.png"]),
    "traditional, one word": ("cp950", ["紅色圓圈.png"]),
    "traditional, with a second byte that is a backslash": ("cp950", ["功能.png", "許願.jpg"]),
    "Korean": ("cp949", ["새 폴더/사진 1.png", "화면 캡처.png"]),
    "Korean, one word": ("cp949", ["빨간 동그라미.png"]),
    "Korean, a short word": ("cp949", ["고양이.jpg"]),
    "German, DOS": ("cp850", ["Übersicht.png"]),
    "German, IBM PC": ("cp437", ["Übersicht.png", "Größe.png"]),
    "German, words": ("cp850", ["Häuser/Straße in München.jpg", "Küche.jpg"]),
    "German, Windows": ("cp1252", ["Übersicht.png", "Grüße aus Köln.jpg"]),
    "French, DOS": ("cp850", ["été à la mer.jpg", "Château.png"]),
    "French, Windows": ("cp1252", ["été à la mer.jpg", "garçon.png"]),
    "Spanish, DOS": ("cp850", ["España/año nuevo.jpg", "niños.png"]),
    "Spanish, Windows": ("cp1252", ["España/año nuevo.jpg", "corazón.png"]),
    "Portuguese, DOS": ("cp850", ["coração.png", "São João.jpg"]),
    "Danish, DOS": ("cp850", ["Smørrebrød på Ærø.jpg"]),
    "Swedish, DOS": ("cp850", ["Färgglad båt på sjön.jpg"]),
    "Russian, DOS": ("cp866", ["Новая папка/Фото 1.png", "Красный круг.jpg"]),
    "Russian, DOS, a short word": ("cp866", ["дом.jpg", "кот.jpg"]),
    "Russian, DOS, capitals": ("cp866", ["НОВЫЙ ГОД.jpg"]),
    "Russian, Windows": ("cp1251", ["Новая папка/Фото 1.png", "Красный круг.jpg"]),
    "Russian, Windows, a short word": ("cp1251", ["дом.jpg", "море.jpg"]),
    "Ukrainian, DOS": ("cp866", ["Червоне коло.png", "Київ.jpg"]),
    "without a mark, Japanese": ("utf-8", ["赤い丸.png", "表.png"]),
    "without a mark, Korean": ("utf-8", ["고양이.jpg"]),
    "without a mark, German as macOS writes it": ("utf-8", ["U\u0308bersicht.png"]),
    "without a mark, French": ("utf-8", ["café.png"]),
    "without a mark, Russian": ("utf-8", ["Фото.png"]),
    "without a mark, Hindi": ("utf-8", ["तस्वीर.png"]),
    "without a mark, an emoji": ("utf-8", ["🐙.png"]),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_are_decoded_in_the_code_page_of_their_machine(kind: str) -> None:
    """Case zip-with-japanese-names: Windows packs names in the code page of its language, without a mark."""
    encoding, names = NAMES[kind]
    raw = [name.encode(encoding) for name in names]
    assert [name.decode(guess_encoding(raw)) for name in raw] == names


def test_all_names_of_a_zip_are_decoded_in_one_encoding() -> None:
    """One name may fit several: 0x84 0xE0 is a Japanese character, and two letters in German."""
    japanese = [name.encode("cp932") for name in ("ア.png", "赤い丸.png", "青い四角.png")]
    assert guess_encoding(japanese) == "cp932"
    assert guess_encoding([b"a.png", *japanese[1:]]) == "cp932"


def test_names_that_fit_no_encoding_are_decoded_in_that_of_the_format() -> None:
    assert guess_encoding([]) == guess_encoding([b"a.png"]) == "cp437"
    assert guess_encoding([b"\xb0.png"]) == "cp437"


def pack(names: dict[bytes, bytes]) -> list[zipfile.ZipInfo]:
    """The members of a zip with these raw names and their extra fields, none marked as UTF-8."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, extra in enumerate(names.values()):
            member = zipfile.ZipInfo(f"{number:0{len(list(names)[number])}}")
            member.extra = extra
            archive.writestr(member, b"")
    data = file.getvalue()
    for number, name in enumerate(names):
        data = data.replace(f"{number:0{len(name)}}".encode(), name)
    return zipfile.ZipFile(io.BytesIO(data)).infolist()


def unicode_path(name: str, *, of: bytes) -> bytes:
    """Info-ZIP's field with a name in UTF-8, for the header that has those bytes."""
    field = b"\1" + struct.pack("<I", zlib.crc32(of)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


def test_the_unicode_field_is_used_where_its_checksum_matches() -> None:
    raw = "Übersicht.png".encode("cp850")
    members = pack({raw: unicode_path("概要.png", of=raw), b"other.png": unicode_path("別.png", of=b"renamed.png")})
    assert read_names(members) == ["概要.png", "other.png"]


def test_names_marked_as_utf_8_are_read_as_such() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("赤い丸.png", "É╘.png", "a.png"):
            archive.writestr(name, b"")
    assert read_names(zipfile.ZipFile(file).infolist()) == ["赤い丸.png", "É╘.png", "a.png"]


def test_a_backslash_byte_in_a_character_is_no_separator() -> None:
    names = ["表/ソ.png", "十\\能.png"]
    assert read_names(pack({name.encode("cp932"): b"" for name in names})) == names
