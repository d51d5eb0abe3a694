"""The Arabic grammar: two genders, the dual, broken plurals, and numbers from three on in the noun's opposite gender.

Plurals of objects have the feminine singular adjective. Vowel signs are omitted, as usual in print.
"""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("صفر", "واحد", "اثنان", "ثلاثة", "أربعة", "خمسة", "ستة")

WITH_FEMININE = {3: "ثلاث", 4: "أربع", 5: "خمس", 6: "ست"}
WITH_MASCULINE = {3: "ثلاثة", 4: "أربعة", 5: "خمسة", 6: "ستة"}

NOUNS = {
    "circle": ("f", "دائرة", "دائرتان", "دوائر"),
    "square": ("m", "مربع", "مربعان", "مربعات"),
    "rectangle": ("m", "مستطيل", "مستطيلان", "مستطيلات"),
    "triangle": ("m", "مثلث", "مثلثان", "مثلثات"),
    "star": ("f", "نجمة", "نجمتان", "نجوم"),
    "heart": ("m", "قلب", "قلبان", "قلوب"),
    "cross": ("m", "صليب", "صليبان", "صلبان"),
    "plus sign": ("f", "علامة زائد", "علامتا زائد", "علامات زائد"),
    "shape": ("m", "شكل", "شكلان", "أشكال"),
    "object": ("m", "عنصر", "عنصران", "عناصر"),
}

ADJECTIVES = {
    "red": ("أحمر", "حمراء", "أحمران", "حمراوان"),
    "orange": ("برتقالي", "برتقالية", "برتقاليان", "برتقاليتان"),
    "yellow": ("أصفر", "صفراء", "أصفران", "صفراوان"),
    "green": ("أخضر", "خضراء", "أخضران", "خضراوان"),
    "blue": ("أزرق", "زرقاء", "أزرقان", "زرقاوان"),
    "purple": ("بنفسجي", "بنفسجية", "بنفسجيان", "بنفسجيتان"),
    "pink": ("وردي", "وردية", "ورديان", "ورديتان"),
    "brown": ("بني", "بنية", "بنيان", "بنيتان"),
    "black": ("أسود", "سوداء", "أسودان", "سوداوان"),
    "white": ("أبيض", "بيضاء", "أبيضان", "بيضاوان"),
    "grey": ("رمادي", "رمادية", "رماديان", "رماديتان"),
}
"""The forms of each colour: masculine, feminine (also for plurals of objects), dual masculine, dual feminine."""


def arabic_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The forms of a noun by template placeholder: `a` is "دائرة حمراء", `many` is "دوائر حمراء"; `the` and `the_many`
    are definite, `kam` follows "how many", and `is` is "there is"."""
    gender, singular, _, plural = NOUNS[noun]
    female = gender == "f"
    singular_adjective = ADJECTIVES[colour][female] if colour else ""
    plural_adjective = ADJECTIVES[colour][1] if colour else ""
    accusative = singular if singular.endswith(("ة", "زائد")) else f"{singular}ًا"
    accusative_adjective = f"{singular_adjective}ًا" if singular_adjective.endswith("ي") else singular_adjective
    return {
        "a": f"{singular} {singular_adjective}".strip(),
        "the": f"{_definite(singular)} {_definite(singular_adjective)}".strip(),
        "many": f"{plural} {plural_adjective}".strip(),
        "the_many": f"{_definite(plural)} {_definite(plural_adjective)}".strip(),
        "kam": f"{accusative} {accusative_adjective}".strip(),
        "is": "توجد" if female else "يوجد",
    }


def _definite(word: str) -> str:
    head, _, rest = word.partition(" ")
    if rest:  # of two nouns in construct the second takes the article
        return f"{head} ال{rest}"
    return f"ال{word}" if word else ""


def arabic_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "ثلاث دوائر زرقاء", "دائرتان زرقاوان", "دائرة زرقاء"."""
    gender, singular, dual, plural = NOUNS[shape or "shape"]
    female = gender == "f"
    adjectives = ADJECTIVES[colour] if colour else ("",) * 4
    if count == 1:
        return f"{singular} {adjectives[female]}".strip()
    if count == 2:
        return f"{dual} {adjectives[2 + female]}".strip()
    return f"{(WITH_FEMININE if female else WITH_MASCULINE)[count]} {plural} {adjectives[1]}".strip()


GRAMMAR = Grammar(
    code="ar",
    numbers=NUMBERS,
    yes="نعم",
    no="لا",
    nothing="لا شيء",
    colours={colour: words[0] for colour, words in ADJECTIVES.items()},
    shapes={shape: NOUNS[shape][1::2] for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=arabic_count,
    join=list_joiner(comma=" و", last=" و"),
    noun_forms=arabic_forms,
    synonyms={
        "circle": ("circle",),
        "square": ("square", "square", "square", "rectangle"),
        "triangle": ("triangle",),
        "star": ("star",),
        "heart": ("heart",),
        "cross": ("cross", "cross", "plus sign"),
        None: ("shape", "shape", "object"),
    },
    sides={
        "left": ("على اليسار", "في اليسار", "على الجانب الأيسر"),
        "right": ("على اليمين", "في اليمين", "على الجانب الأيمن"),
        "top": ("في الأعلى", "في أعلى الصورة"),
        "bottom": ("في الأسفل", "في أسفل الصورة"),
        "middle": ("في الوسط", "في المنتصف"),
    },
    questions={
        "count": (
            "كم عدد {the_many}؟",
            "كم {kam} هناك؟",
            "كم {kam} في الصورة؟",
            "كم {kam} ترى؟",
            "كم عدد {the_many} في الصورة؟",
            "كم {kam}؟",
            "ما عدد {the_many}؟",
            "عد {the_many}",
        ),
        "colour_it": ("ما لونه؟", "ما لونها؟", "ما هو لونه؟", "ما هو لونها؟", "ما اللون؟"),
        "colour_they": ("ما لونها؟", "ما هو لونها؟", "ما ألوانها؟", "ما هي ألوانها؟"),
        "colour_the": ("ما لون {the}؟", "ما هو لون {the}؟"),
        "colour_the_many": ("ما لون {the_many}؟", "ما هو لون {the_many}؟", "ما ألوان {the_many}؟"),
        "colour_side": ("ما لون {the} {side}؟", "ما هو لون {the} {side}؟"),
        "shape_it": ("ما هذا الشكل؟", "ما شكله؟", "ما هو الشكل؟", "ما شكل هذا؟"),
        "shape_they": ("ما هذه الأشكال؟", "ما شكلها؟", "ما هي الأشكال؟"),
        "shape_the": ("ما شكل {the}؟", "ما هو شكل {the}؟"),
        "shape_side": ("ما الشكل {side}؟", "ما هو الشكل الموجود {side}؟"),
        "what": (
            "ما هذا؟",
            "ماذا يوجد في الصورة؟",
            "ماذا ترى؟",
            "ما الذي في الصورة؟",
            "ماذا في الصورة؟",
            "ماذا تظهر الصورة؟",
        ),
        "side": ("ماذا يوجد {side}؟", "ما الموجود {side}؟", "ماذا ترى {side}؟", "ما الذي {side}؟"),
        "exists": ("هل {is} {a}؟", "هل هناك {a}؟", "هل {is} {a} في الصورة؟", "هل ترى {many}؟", "هل توجد {many}؟"),
        "caption": ("صف الصورة", "صف هذه الصورة.", "قل ماذا ترى"),
        "and_many": ("و{the_many}؟", "وكم {kam}؟", "وكم عدد {the_many}؟"),
        "and_a": ("و{a}؟", "وهل {is} {a}؟", "وهل هناك {a}؟"),
        "and_side": ("و{side}؟", "وماذا {side}؟", "وماذا يوجد {side}؟"),
        "how_many": ("كم عددها؟", "كم؟", "كم العدد؟"),
    },
)
