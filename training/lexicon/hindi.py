"""The Hindi grammar: two genders, direct and oblique cases; only colours in -ā agree with the noun."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("शून्य", "एक", "दो", "तीन", "चार", "पाँच", "छह")

NOUNS = {
    "circle": ("m", "वृत्त", "वृत्त", "वृत्त", "वृत्तों"),
    "ring": ("m", "गोला", "गोले", "गोले", "गोलों"),
    "square": ("m", "वर्ग", "वर्ग", "वर्ग", "वर्गों"),
    "triangle": ("m", "त्रिभुज", "त्रिभुज", "त्रिभुज", "त्रिभुजों"),
    "star": ("m", "तारा", "तारे", "तारे", "तारों"),
    "heart": ("m", "दिल", "दिल", "दिल", "दिलों"),
    "cross": ("m", "क्रॉस", "क्रॉस", "क्रॉस", "क्रॉसों"),
    "shape": ("f", "आकृति", "आकृतियाँ", "आकृति", "आकृतियों"),
    "form": ("m", "आकार", "आकार", "आकार", "आकारों"),
    "thing": ("f", "चीज़", "चीज़ें", "चीज़", "चीज़ों"),
}
"""For each noun its gender, its direct singular and plural, and its oblique singular and plural."""

COLOURS = {
    "red": "लाल",
    "orange": "नारंगी",
    "yellow": "पीला",
    "green": "हरा",
    "blue": "नीला",
    "purple": "बैंगनी",
    "pink": "गुलाबी",
    "brown": "भूरा",
    "black": "काला",
    "white": "सफ़ेद",
    "grey": "स्लेटी",
}

AGREEING = ("yellow", "green", "blue", "brown", "black")


def hindi_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The forms of a noun by template placeholder: `one` is "नीला वृत्त", `many` "नीले वृत्त", `how` (how many) "कितने नीले
    वृत्त"; `of` and `of_many` precede a postposition."""
    gender, singular, plural, oblique_singular, oblique_plural = NOUNS[noun]
    female = gender == "f"
    direct, oblique = _hindi_adjective(colour, "ी" if female else "ा"), _hindi_adjective(colour, "ी" if female else "े")
    return {
        "one": f"{direct}{singular}",
        "many": f"{oblique}{plural}",
        "of": f"{oblique}{oblique_singular}",
        "of_many": f"{oblique}{oblique_plural}",
        "how": f"{'कितनी' if female else 'कितने'} {oblique}{plural}",
    }


def _hindi_adjective(colour: str | None, ending: str) -> str:
    if not colour:
        return ""
    word = COLOURS[colour]
    return f"{word[:-1] + ending if colour in AGREEING else word} "


def hindi_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "तीन नीले वृत्त" (three blue circles), "एक लाल तारा" (a red star)."""
    words = hindi_forms(shape or "shape", colour)
    return f"{NUMBERS[count]} {words['one' if count == 1 else 'many']}"


GRAMMAR = Grammar(
    code="hi",
    numbers=NUMBERS,
    yes="हाँ",
    no="नहीं",
    nothing="कुछ नहीं",
    colours=COLOURS,
    shapes={shape: NOUNS[shape][1:3] for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=hindi_count,
    join=list_joiner(last=" और "),
    noun_forms=hindi_forms,
    synonyms={
        "circle": ("circle", "circle", "ring"),
        "square": ("square",),
        "triangle": ("triangle",),
        "star": ("star",),
        "heart": ("heart",),
        "cross": ("cross",),
        None: ("shape", "shape", "form", "thing"),
    },
    sides={
        "left": ("बाईं ओर", "बाएँ", "बाईं तरफ़"),
        "right": ("दाईं ओर", "दाएँ", "दाईं तरफ़"),
        "top": ("ऊपर", "सबसे ऊपर"),
        "bottom": ("नीचे", "सबसे नीचे"),
        "middle": ("बीच में", "मध्य में"),
    },
    questions={
        "count": (
            "{how} हैं?",
            "यहाँ {how} हैं?",
            "चित्र में {how} हैं?",
            "तस्वीर में {how} हैं?",
            "{how} दिख रहे हैं?",
            "कुल {how} हैं?",
            "{of_many} की संख्या क्या है?",
            "{of_many} को गिनो",
        ),
        "colour_it": ("इसका रंग क्या है?", "यह किस रंग का है?", "इसका रंग कौन सा है?", "उसका रंग क्या है?"),
        "colour_they": ("इनका रंग क्या है?", "ये किस रंग के हैं?", "उनका रंग क्या है?", "वे किस रंग के हैं?"),
        "colour_the": ("{of} का रंग क्या है?", "{of} का रंग कौन सा है?"),
        "colour_the_many": ("{of_many} का रंग क्या है?", "{of_many} के रंग क्या हैं?"),
        "colour_side": ("{side} {of} का रंग क्या है?", "{side} वाली चीज़ का रंग क्या है?"),
        "shape_it": ("यह कौन सी आकृति है?", "इसका आकार क्या है?", "यह क्या आकृति है?", "यह कौन सा आकार है?"),
        "shape_they": ("ये कौन सी आकृतियाँ हैं?", "इनका आकार क्या है?", "ये क्या आकृतियाँ हैं?"),
        "shape_the": ("{of} का आकार क्या है?", "{of} की आकृति क्या है?"),
        "shape_side": ("{side} कौन सी आकृति है?", "{side} वाली चीज़ का आकार क्या है?"),
        "what": (
            "यह क्या है?",
            "चित्र में क्या है?",
            "तस्वीर में क्या है?",
            "आप क्या देखते हैं?",
            "इस चित्र में क्या दिख रहा है?",
            "क्या दिख रहा है?",
        ),
        "side": ("{side} क्या है?", "{side} क्या दिख रहा है?", "चित्र में {side} क्या है?"),
        "exists": (
            "क्या कोई {one} है?",
            "क्या चित्र में {one} है?",
            "क्या यहाँ {one} है?",
            "क्या {many} हैं?",
            "क्या {one} दिख रहा है?",
        ),
        "caption": ("चित्र का वर्णन करो", "इस चित्र का वर्णन करें।", "तस्वीर का वर्णन कीजिए", "बताओ क्या दिख रहा है"),
        "and_many": ("और {many}?", "और {how} हैं?", "और {how}?"),
        "and_a": ("और {one}?", "और क्या {one} है?"),
        "and_side": ("और {side}?", "और {side} क्या है?"),
        "how_many": ("कितने?", "कितने हैं?", "कितनी हैं?", "वे कितने हैं?"),
    },
)
