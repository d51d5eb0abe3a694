"""Decodes the names of the files in a zip, which often does not state their encoding.

A name without a UTF-8 mark is in the code page of the machine that packed the zip; `zipfile` decodes it as code page
437. `guess_encoding` chooses one encoding for all unmarked names of a zip, since they come from one machine: each
non-ASCII character scores from -1 to 1 (see `_likelihood`), and of the encodings that can decode every name, the one
with the highest mean score is taken (of several, the first in `ENCODINGS`).

Depends on names only. Follows PKWARE's APPNOTE, appendix D, and Info-ZIP's Unicode path field (0x7075).
"""

from __future__ import annotations

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence

UTF8_FLAG = 0x800
UNICODE_PATH = 0x7075
ENCODINGS = ("utf-8", "cp932", "gbk", "cp950", "cp949", "cp850", "cp437", "cp1252", "cp866", "cp1251")
FALLBACK = "cp437"
"""The encoding that the zip format prescribes; used if no encoding scores at least `MIN_SCORE`."""

MIN_SCORE = 0.25
UTF8_BONUS = 0.4
"""Added to the score of UTF-8, because text in other encodings is rarely valid UTF-8."""

MAX_SCORED_BYTES = 20_000
"""How many bytes of names are scored; more would take longer and change nothing."""

LATIN = {
    **dict.fromkeys("äöüßéèêëàâáãåæçíîïñóôøœúûÄÖÜÉÅÆÇÑØ", 1.0),
    **dict.fromkeys("ìòõùÀÁÂÃÈÊÌÍÎÒÓÔÕÙÚÛŒ", 0.6),
}
RUSSIAN = {
    **dict.fromkeys("оеаинтсрвл", 1.0),
    **dict.fromkeys("кмдпу", 0.9),
    **dict.fromkeys("яыьгзбч", 0.8),
    **dict.fromkeys("йхжшюі", 0.65),
    **dict.fromkeys("цщэфъёїє", 0.5),
}
"""How common a letter is in the languages of Western Europe and in Russian; a letter that is missing scores `RARE`."""

RARE = 0.25
CAPITALS = 0.5
"""Factor for a Russian capital beside another: rare in names, but frequent in Chinese names decoded as Russian."""

LIVING_SCRIPTS = frozenset(
    {
        *("ARABIC", "ARMENIAN", "BENGALI", "DEVANAGARI", "ETHIOPIC", "GEORGIAN", "GREEK", "GUJARATI", "GURMUKHI"),
        *("HEBREW", "KANNADA", "KHMER", "LAO", "MALAYALAM", "MYANMAR", "ORIYA", "SINHALA", "TAMIL", "TELUGU", "THAI"),
    }
)
EMOJI = range(0x1F000, 0x20000)
COMMON_SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经"
    "么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三"
    "又关点正业外将两高间由问很最重并物手应向头文体美相见利什二等产新己身果加西月话合回特代内信表化老给世位次度门常先海通教儿原东声"
    "提立及比员解水名真论处走各入几口条平系气题活别打女变四总何电数安少报才结目太量再感建务做接场件计管期市直资山金指区保空展马科五"
    "书白界光像色路记南品住类求程北边张交万取望传观清今院图片照相截屏幕新夹副本复制花猫狗鸟鱼红黄蓝绿黑树车船房屋店桥街城春夏秋冬拍摄"
    "旅游景背素材模型篮足球熊落桌寿司咪福毕婚礼沙滩山广头壁纸证件护身份封格汽飞火站台灯影雪雨云星湖河江岛森林草叶园公司宝贝孩童男朋友"
    "爸妈爷奶哥姐弟妹婴师校班级美食菜饭包蛋糕果苹香蕉橙茶咖啡酒杯瓶碗盘衣服鞋帽箱手脑键椅床窗楼塔寺庙宫殿佛龙虎羊牛马猪鸡鸭兔狮象猴蛇"
)
COMMON_TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經"
    "麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日者意無力與長把機十民第公此已工使情明性知全三又關"
    "點正業外將兩高間由問很最重並物手應向頭文體美相見利二等產新己身果加西月話合回特代內信表化老給世位次度門常先海通教兒原東聲提立及"
    "比員解水名真論處走各入幾口條平系氣題活別打女變四總何電數安少報才結目太量再感建務做接場件計管期市直資山金指區保空展馬科五書白界"
    "光像色路記南品住類求程北邊張交萬取望傳觀清今院圖片照相截螢幕夾副本複製花貓狗鳥魚紅黃藍綠黑樹車船房屋店橋街城春夏秋冬拍攝檔案臺灣"
    "旅遊景背素材模型籃足球熊落桌壽司咪福畢婚禮沙灘山廣頭壁紙證件護身份封格汽飛火站台燈影雪雨雲星湖河江島森林草葉園公司寶貝孩童男朋友"
    "爸媽爺奶哥姐弟妹嬰師校班級美食菜飯包蛋糕果蘋香蕉橙茶咖啡酒杯瓶碗盤衣服鞋帽箱手腦鍵椅床窗樓塔寺廟宮殿佛龍虎羊牛馬豬雞鴨兔獅象猴蛇"
)
COMMON_HANGUL = frozenset(
    "이다는의에을가고한지하기로사은도를어나자리대시서인아정수부그해들일스보있과니전제상으라장주구오여비것소마안원조선게우원유신경동생만성"
    "연문면중위관공물적계적행발실세방무국화내회말용방재력되당작때모미산치진식심결거가음분속감개결교금급김남년노단달더던든등래러레려르른름"
    "많며명민밀바반받백번변별복본봄북불빛빨사새색설손송순술습승아야약양얼없엇에역열영예오옥온와외요월의임입잎잔점족존종좋죄줄증집차찬참책"
    "처천철청체초총최추축출충친칠타태터토통트특파판편평포표품풍프피필학할함항허험현형호혼홍활황효후휴흐흰힘꽃강고양개나무집바다가족여행"
    "사진그림파일폴더새복사캡처화면빨간동그라미노란초록파란검은"
    "섯덟홉십몰롬럽런련료류율률릴맞맥멋몇묘묵밖밤밥방백뱀벌벽복볼붉블빌뿐쁜삼샵섬셋쇼숲슬싱쌀쓰씨앞액얀얼엄엔엠옛옥올완왕욕용윤율읽잘잠젊젠졸줌쪽"
    "찍채첫촌칼캐커컴케코콜쿠크클킹탑탕텔튼팅퍼페펜포폰폴푸플픽핀할햇헌헤혜훈휘흔"
)
KANJI_LEVEL_1 = range(0x889F, 0x9873)
"""The codes of the kanji of everyday use in code page 932."""


def read_names(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The decoded name of each member of a zip. Its separators, `/` or a backslash, are as in the zip."""
    known = [_known_name(member) for member in members]
    raw = [_raw_name(member) if name is None else b"" for member, name in zip(members, known, strict=True)]
    encoding = guess_encoding(raw)
    names = [name or raw_name.decode(encoding, "replace") for name, raw_name in zip(known, raw, strict=True)]
    return [name.split("\0")[0] for name in names]


def guess_encoding(names: Sequence[bytes]) -> str:
    """The most likely encoding of `names`, which come from one machine; `cp437` if all are ASCII or none is likely."""
    sample, length = [], 0
    for name in names:
        if not name.isascii() and length + len(name) <= MAX_SCORED_BYTES:
            sample.append(name)
            length += len(name)
    scores = {encoding: _score(sample, encoding) for encoding in ENCODINGS} if sample else {}
    best = max(scores, key=lambda encoding: scores[encoding], default=FALLBACK)
    return best if scores.get(best, 0) >= MIN_SCORE else FALLBACK


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member's name. `zipfile` decoded them as code page 437, which has a character for every byte."""
    return member.orig_filename.encode("cp437")


def _known_name(member: zipfile.ZipInfo) -> str | None:
    """The name if it is marked as UTF-8, or in Info-ZIP's Unicode path field with a matching checksum; else None."""
    if member.flag_bits & UTF8_FLAG:
        return member.orig_filename
    extra, start = member.extra, 0
    while start + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, start)
        field = extra[start + 4 : start + 4 + size]
        start += 4 + size
        if kind != UNICODE_PATH or len(field) < 6 or field[0] != 1:
            continue
        if struct.unpack_from("<I", field, 1)[0] == zlib.crc32(_raw_name(member)):
            return field[5:].decode("utf-8", "replace")
    return None


def _score(names: Sequence[bytes], encoding: str) -> float:
    """The mean likelihood of all non-ASCII characters of `names`, or -1 if a name cannot be decoded in `encoding`."""
    try:
        texts = [name.decode(encoding) for name in names]
    except UnicodeDecodeError:
        return -1.0
    scores = [
        _likelihood(text[index], text[index - 1] if index else "", text[index + 1 : index + 2], encoding)
        for text in texts
        for index in range(len(text))
        if not text[index].isascii()
    ]
    return sum(scores) / len(scores) + (UTF8_BONUS if encoding == "utf-8" else 0)


def _likelihood(character: str, before: str, after: str, encoding: str) -> float:
    """How likely a character is in a file name between the characters `before` and `after`, from -1 to 1."""
    script = _script(character)
    category = unicodedata.category(character)
    if category[0] == "C" or script in ("BOX", "BLOCK"):
        return -1.0 if category != "Cf" else 0.5
    if script == "LATIN":
        return _latin(character, before, after)
    if script == "CYRILLIC":
        return _cyrillic(character, before, after) if encoding in ("utf-8", "cp866", "cp1251") else 0.0
    if script in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "FULLWIDTH", "IDEOGRAPHIC"):
        penalty = 0.4 * any(neighbour.isascii() and neighbour.islower() for neighbour in (before, after))
        return _east_asian(character, script, encoding) - penalty
    if script == "HALFWIDTH":
        return 0.0
    if encoding == "utf-8":
        return _other_script(character, script, before, after)
    return 0.3 if encoding in ("cp932", "gbk", "cp950", "cp949") and category[0] in "PS" else -0.5


def _script(character: str) -> str:
    """The first word of a character's Unicode name (for a letter, its script), or an empty string without a name."""
    return unicodedata.name(character, "").split(" ")[0] if character else ""


def _latin(character: str, before: str, after: str) -> float:
    """How likely a Latin letter is between its neighbours: high for a common accented letter beside an ASCII letter,
    low for ß without a vowel before it, negative for a capital inside a word."""
    if _is_capital_inside(character, before, after):
        return -0.5
    weight = LATIN.get(character, RARE)
    if character == "ß" and before.lower() not in "aeiouyäöü":
        weight = RARE
    return weight if _is_ascii_letter(before) or _is_ascii_letter(after) else 0.4 * weight


def _cyrillic(character: str, before: str, after: str) -> float:
    """The score of a Cyrillic letter: high if common, low if alone, negative beside ASCII or as a capital in a word."""
    if _is_capital_inside(character, before, after) or _is_ascii_letter(before) or _is_ascii_letter(after):
        return -0.5
    weight = RUSSIAN.get(character.lower(), RARE)
    if character.isupper() and (before.isupper() or after.isupper()):
        weight *= CAPITALS
    return weight if before.isalpha() or after.isalpha() else 0.4 * weight


def _is_capital_inside(character: str, before: str, after: str) -> bool:
    return character.isupper() and (before.islower() or (before.isalpha() and after.islower()))


def _is_ascii_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _other_script(character: str, script: str, before: str, after: str) -> float:
    """The score of any other character, in UTF-8: high for emoji, combining accents, and words in a script in use."""
    if script in LIVING_SCRIPTS:
        return 1.0 if script in (_script(before), _script(after)) else 0.4
    return 1.0 if ord(character) in EMOJI or script == "COMBINING" else 0.2


def _east_asian(character: str, script: str, encoding: str) -> float:
    """The score of an East Asian character: high if kana or common (by list or by its code in `encoding`), else low."""
    if encoding == "utf-8":
        is_common = script != "CJK" or character in COMMON_SIMPLIFIED or character in COMMON_TRADITIONAL
        return 1.0 if is_common else 0.6
    if script in ("FULLWIDTH", "IDEOGRAPHIC"):
        return 0.5
    code = int.from_bytes(character.encode(encoding), "big")
    is_standard = code >> 8 > 0xA0 and code & 0xFF > 0xA0  # in GB 2312 or KS X 1001, which the code pages extend
    if encoding == "cp932":
        return 1.0 if script != "CJK" else 0.8 if code in KANJI_LEVEL_1 else 0.2
    if encoding == "cp949":
        return (1.0 if character in COMMON_HANGUL else 0.6 if is_standard else 0.0) if script == "HANGUL" else 0.1
    if script != "CJK":
        return 0.2
    if encoding == "gbk":
        is_everyday = is_standard and code < 0xD800
        return 1.0 if character in COMMON_SIMPLIFIED else 0.6 if is_everyday else 0.3 if is_standard else -0.3
    return 1.0 if character in COMMON_TRADITIONAL else 0.6 if code < 0xC67F else 0.2
