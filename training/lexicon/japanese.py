"""The Japanese grammar: no plural, colours as adjectives (赤い) or nouns with の (緑の), counting with つ."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("ゼロ", "一", "二", "三", "四", "五", "六")
COUNTERS = ("", "一つ", "二つ", "三つ", "四つ", "五つ", "六つ")

NOUNS = {
    "circle": "円",
    "round": "丸",
    "square": "四角形",
    "regular square": "正方形",
    "box": "四角",
    "triangle": "三角形",
    "star": "星",
    "star shape": "星形",
    "heart": "ハート",
    "cross": "十字",
    "shape": "図形",
    "form": "形",
    "object": "物",
    "thing": "もの",
}

COLOURS = {
    "red": ("赤", "赤い"),
    "orange": ("オレンジ色", "オレンジ色の"),
    "yellow": ("黄色", "黄色い"),
    "green": ("緑", "緑の"),
    "blue": ("青", "青い"),
    "purple": ("紫", "紫の"),
    "pink": ("ピンク", "ピンクの"),
    "brown": ("茶色", "茶色い"),
    "black": ("黒", "黒い"),
    "white": ("白", "白い"),
    "grey": ("灰色", "灰色の"),
}


def japanese_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The form of a noun by template placeholder: `it` is "青い円" (blue circle)."""
    return {"it": f"{COLOURS[colour][1] if colour else ''}{NOUNS[noun]}"}


def japanese_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "三つの青い円" (three blue circles); one is "赤い星"."""
    words = japanese_forms(shape or "shape", colour)["it"]
    return words if count == 1 else f"{COUNTERS[count]}の{words}"


GRAMMAR = Grammar(
    code="ja",
    numbers=NUMBERS,
    yes="はい",
    no="いいえ",
    nothing="何もない",
    colours={colour: words[0] for colour, words in COLOURS.items()},
    shapes={shape: (NOUNS[shape],) * 2 for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=japanese_count,
    join=list_joiner(comma="、", last="と"),
    noun_forms=japanese_forms,
    synonyms={
        "circle": ("circle", "circle", "round"),
        "square": ("square", "regular square", "box"),
        "triangle": ("triangle",),
        "star": ("star", "star", "star shape"),
        "heart": ("heart",),
        "cross": ("cross",),
        None: ("shape", "shape", "form", "object", "thing"),
    },
    sides={
        "left": ("左に", "左側に"),
        "right": ("右に", "右側に"),
        "top": ("上に", "一番上に"),
        "bottom": ("下に", "一番下に"),
        "middle": ("真ん中に", "中央に"),
    },
    questions={
        "count": (
            "{it}はいくつありますか？",
            "{it}は何個ありますか？",
            "{it}はいくつ？",
            "{it}はいくつ見えますか?",
            "画像に{it}はいくつありますか？",
            "{it}の数は？",
            "{it}の数はいくつですか？",
            "{it}を数えてください。",
        ),
        "colour_it": ("何色ですか？", "それは何色ですか？", "これは何色ですか？", "色は何ですか?", "何色？"),
        "colour_they": ("何色ですか？", "それらは何色ですか？", "それらの色は何ですか？", "何色?"),
        "colour_the": ("{it}は何色ですか？", "{it}の色は何ですか？", "{it}の色は？"),
        "colour_the_many": ("{it}は何色ですか？", "{it}の色は何ですか？", "{it}の色は?"),
        "colour_side": ("{side}ある{it}は何色ですか？", "{side}ある{it}の色は何ですか？"),
        "shape_it": ("どんな形ですか？", "これはどんな形ですか？", "形は何ですか？", "何の形ですか？"),
        "shape_they": ("どんな形ですか？", "それらはどんな形ですか？", "それらの形は何ですか？"),
        "shape_the": ("{it}はどんな形ですか？", "{it}の形は何ですか？"),
        "shape_side": ("{side}ある形は何ですか？", "{side}あるのはどんな形ですか？"),
        "what": (
            "これは何ですか？",
            "画像に何がありますか？",
            "何が見えますか？",
            "何が写っていますか？",
            "この絵には何がありますか？",
            "写真には何がありますか?",
        ),
        "side": ("{side}何がありますか？", "{side}あるのは何ですか？", "{side}何が見えますか？"),
        "exists": ("{it}はありますか？", "{it}がありますか？", "画像に{it}はありますか？", "{it}は見えますか？"),
        "caption": ("画像を説明してください。", "この画像を説明してください", "絵を説明して"),
        "and_many": ("{it}は？", "では{it}は？", "{it}はいくつ？"),
        "and_a": ("{it}は？", "では{it}は？", "{it}もありますか？"),
        "and_side": ("{side}は？", "では{side}は？", "では{side}何がありますか？"),
        "how_many": ("いくつですか？", "いくつありますか？", "いくつ？", "何個ですか？"),
    },
)
