"""The German grammar: three genders, strong and weak adjectives, nominative and accusative."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs")

NOUNS = {
    "circle": ("m", "Kreis", "Kreise"),
    "dot": ("m", "Punkt", "Punkte"),
    "square": ("n", "Quadrat", "Quadrate"),
    "rectangle": ("n", "Viereck", "Vierecke"),
    "triangle": ("n", "Dreieck", "Dreiecke"),
    "star": ("m", "Stern", "Sterne"),
    "heart": ("n", "Herz", "Herzen"),
    "cross": ("n", "Kreuz", "Kreuze"),
    "shape": ("f", "Form", "Formen"),
    "figure": ("f", "Figur", "Figuren"),
    "object": ("n", "Objekt", "Objekte"),
    "thing": ("n", "Ding", "Dinge"),
}

COLOURS = {
    "red": "rot",
    "orange": "orange",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "lila",
    "pink": "rosa",
    "brown": "braun",
    "black": "schwarz",
    "white": "weiß",
    "grey": "grau",
}

UNCHANGING = ("orange", "purple", "pink")

ARTICLES = {"m": ("ein", "einen", "der"), "f": ("eine", "eine", "die"), "n": ("ein", "ein", "das")}
ENDINGS = {"m": ("er", "en", "e"), "f": ("e", "e", "e"), "n": ("es", "es", "e")}


def german_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The forms of a noun by template placeholder: `a` is "ein roter Kreis", `a_acc` "einen roten Kreis",
    `the` "der rote Kreis", `many` "rote Kreise", `the_many` "die roten Kreise"."""
    gender, singular, plural = NOUNS[noun]
    cases = zip(("a", "a_acc", "the"), ARTICLES[gender], ENDINGS[gender], strict=True)
    words = {case: f"{article} {_german_adjective(colour, ending)}{singular}" for case, article, ending in cases}
    words["many"] = f"{_german_adjective(colour, 'e')}{plural}"
    return {**words, "the_many": f"die {_german_adjective(colour, 'en')}{plural}"}


def _german_adjective(colour: str | None, ending: str) -> str:
    if not colour:
        return ""
    return f"{COLOURS[colour]}{'' if colour in UNCHANGING else ending} "


def german_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "drei blaue Kreise", "ein roter Stern"."""
    words = german_forms(shape or "shape", colour)
    return words["a"] if count == 1 else f"{NUMBERS[count]} {words['many']}"


GRAMMAR = Grammar(
    code="de",
    numbers=NUMBERS,
    yes="ja",
    no="nein",
    nothing="nichts",
    colours=COLOURS,
    shapes={shape: NOUNS[shape][1:] for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=german_count,
    join=list_joiner(last=" und "),
    noun_forms=german_forms,
    synonyms={
        "circle": ("circle", "circle", "circle", "dot"),
        "square": ("square", "square", "rectangle"),
        "triangle": ("triangle",),
        "star": ("star",),
        "heart": ("heart",),
        "cross": ("cross",),
        None: ("shape", "shape", "figure", "object", "thing"),
    },
    sides={
        "left": ("links", "auf der linken Seite", "ganz links"),
        "right": ("rechts", "auf der rechten Seite", "ganz rechts"),
        "top": ("oben", "ganz oben"),
        "bottom": ("unten", "ganz unten"),
        "middle": ("in der Mitte",),
    },
    questions={
        "count": (
            "Wie viele {many} gibt es?",
            "Wie viele {many} sind es?",
            "Wie viele {many} sind auf dem Bild?",
            "Wie viele {many} sind zu sehen?",
            "Wie viele {many} siehst du?",
            "Wie viele {many}?",
            "Zähle {the_many}.",
        ),
        "colour_it": (
            "Welche Farbe hat es?",
            "Welche Farbe ist das?",
            "Welche Farbe hat er?",
            "Welche Farbe hat sie?",
            "Was für eine Farbe hat es?",
        ),
        "colour_they": ("Welche Farbe haben sie?", "Welche Farben haben sie?", "Welche Farbe ist das?"),
        "colour_the": ("Welche Farbe hat {the}?", "Was für eine Farbe hat {the}?", "Welche Farbe hat hier {the}?"),
        "colour_the_many": ("Welche Farbe haben {the_many}?", "Welche Farben haben {the_many}?"),
        "colour_side": ("Welche Farbe hat {the} {side}?", "Welche Farbe hat das {side}?"),
        "shape_it": (
            "Welche Form ist das?",
            "Welche Form hat es?",
            "Was für eine Form ist das?",
            "Welche Form siehst du?",
        ),
        "shape_they": ("Welche Formen sind das?", "Welche Form haben sie?", "Was sind das für Formen?"),
        "shape_the": ("Welche Form hat {the}?", "Was für eine Form hat {the}?"),
        "shape_side": ("Welche Form ist {side}?", "Welche Form ist {side} zu sehen?"),
        "what": (
            "Was ist das?",
            "Was ist auf dem Bild?",
            "Was ist auf dem Bild zu sehen?",
            "Was siehst du?",
            "Was zeigt das Bild?",
            "Was ist zu sehen?",
        ),
        "side": ("Was ist {side}?", "Was siehst du {side}?", "Was ist {side} zu sehen?", "Was befindet sich {side}?"),
        "exists": (
            "Gibt es {a_acc}?",
            "Ist da {a}?",
            "Ist {a} auf dem Bild?",
            "Siehst du {a_acc}?",
            "Gibt es {many}?",
            "Zeigt das Bild {a_acc}?",
        ),
        "caption": ("Beschreibe das Bild.", "Beschreibe dieses Bild.", "Sag, was du siehst."),
        "and_many": ("Und {many}?", "Und wie viele {many}?", "Wie viele {many}?"),
        "and_a": ("Und {a}?", "Und {a_acc}?", "Gibt es auch {a_acc}?"),
        "and_side": ("Und {side}?", "Und was ist {side}?"),
        "how_many": ("Wie viele?", "Wie viele sind es?", "Wie viele gibt es?"),
    },
)
