"""The Chinese grammar, in Traditional script as in mBLIP: the measure word 個, and 兩 for two of a kind."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("零", "一", "二", "三", "四", "五", "六")
COUNTERS = ("", "一個", "兩個", "三個", "四個", "五個", "六個")

NOUNS = {
    "circle": "圓形",
    "round": "圓圈",
    "disc": "圓",
    "square": "正方形",
    "box": "方形",
    "triangle": "三角形",
    "star": "星形",
    "little star": "星星",
    "heart": "心形",
    "cross": "十字形",
    "plus": "十字",
    "shape": "形狀",
    "figure": "圖形",
    "thing": "東西",
    "object": "物體",
}

COLOURS = {
    "red": "紅色",
    "orange": "橙色",
    "yellow": "黃色",
    "green": "綠色",
    "blue": "藍色",
    "purple": "紫色",
    "pink": "粉紅色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "grey": "灰色",
}


def chinese_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The form of a noun by template placeholder: `it` is "藍色的圓形" (blue circle)."""
    return {"it": f"{COLOURS[colour] + '的' if colour else ''}{NOUNS[noun]}"}


def chinese_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "三個藍色的圓形" (three blue circles), "一個紅色的星形" (a red star)."""
    return f"{COUNTERS[count]}{chinese_forms(shape or 'figure', colour)['it']}"


GRAMMAR = Grammar(
    code="zh",
    numbers=NUMBERS,
    yes="是",
    no="否",
    nothing="沒有東西",
    colours=COLOURS,
    shapes={shape: (NOUNS[shape],) * 2 for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=chinese_count,
    join=list_joiner(comma="、", last="和"),
    noun_forms=chinese_forms,
    synonyms={
        "circle": ("circle", "circle", "round", "disc"),
        "square": ("square", "square", "box"),
        "triangle": ("triangle",),
        "star": ("star", "little star"),
        "heart": ("heart",),
        "cross": ("cross", "plus"),
        None: ("shape", "figure", "thing", "object"),
    },
    sides={
        "left": ("左邊", "左側", "最左邊"),
        "right": ("右邊", "右側", "最右邊"),
        "top": ("上面", "上方", "最上面"),
        "bottom": ("下面", "下方", "最下面"),
        "middle": ("中間", "中央"),
    },
    questions={
        "count": (
            "有幾個{it}？",
            "有多少個{it}？",
            "圖中有幾個{it}？",
            "圖片裡有多少個{it}？",
            "你看到幾個{it}？",
            "一共有幾個{it}?",
            "{it}有幾個？",
            "{it}的數量是多少？",
            "數一數{it}。",
        ),
        "colour_it": ("它是什麼顏色？", "這是什麼顏色？", "是什麼顏色？", "它的顏色是什麼？", "什麼顏色?"),
        "colour_they": ("它們是什麼顏色？", "它們的顏色是什麼？", "是什麼顏色？", "這些是什麼顏色?"),
        "colour_the": ("{it}是什麼顏色？", "{it}的顏色是什麼？", "這個{it}是什麼顏色？"),
        "colour_the_many": ("{it}是什麼顏色？", "這些{it}是什麼顏色？", "{it}的顏色是什麼？"),
        "colour_side": ("{side}的{it}是什麼顏色？", "{side}的{it}的顏色是什麼？", "{side}是什麼顏色?"),
        "shape_it": ("這是什麼形狀？", "它是什麼形狀？", "是什麼形狀？", "它的形狀是什麼？"),
        "shape_they": ("它們是什麼形狀？", "這些是什麼形狀？", "它們的形狀是什麼？"),
        "shape_the": ("{it}是什麼形狀？", "{it}的形狀是什麼？"),
        "shape_side": ("{side}是什麼形狀？", "{side}的形狀是什麼？"),
        "what": ("這是什麼？", "圖中有什麼？", "圖片裡有什麼？", "你看到什麼？", "這張圖片顯示什麼？", "圖上有什麼?"),
        "side": ("{side}是什麼？", "{side}有什麼？", "你在{side}看到什麼？"),
        "exists": ("有{it}嗎？", "圖中有{it}嗎？", "有沒有{it}？", "你看到{it}嗎？", "圖片裡有沒有{it}?"),
        "caption": ("描述這張圖片。", "請描述圖片", "說說你看到什麼。"),
        "and_many": ("{it}呢？", "那{it}呢？", "那有幾個{it}？"),
        "and_a": ("{it}呢？", "那{it}呢？", "那有{it}嗎？"),
        "and_side": ("{side}呢？", "那{side}呢？", "那{side}有什麼？"),
        "how_many": ("有幾個？", "幾個？", "有多少個？", "它們有幾個？"),
    },
)
