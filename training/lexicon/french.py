"""The French grammar: two genders, elision, colours after the noun, the space before the question mark."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("zéro", "un", "deux", "trois", "quatre", "cinq", "six")

NOUNS = {
    "circle": ("m", "cercle", "cercles"),
    "dot": ("m", "rond", "ronds"),
    "square": ("m", "carré", "carrés"),
    "rectangle": ("m", "rectangle", "rectangles"),
    "triangle": ("m", "triangle", "triangles"),
    "star": ("f", "étoile", "étoiles"),
    "heart": ("m", "cœur", "cœurs"),
    "cross": ("f", "croix", "croix"),
    "shape": ("f", "forme", "formes"),
    "figure": ("f", "figure", "figures"),
    "object": ("m", "objet", "objets"),
    "thing": ("f", "chose", "choses"),
}

ADJECTIVES = {
    "red": ("rouge", "rouge", "rouges", "rouges"),
    "orange": ("orange", "orange", "orange", "orange"),
    "yellow": ("jaune", "jaune", "jaunes", "jaunes"),
    "green": ("vert", "verte", "verts", "vertes"),
    "blue": ("bleu", "bleue", "bleus", "bleues"),
    "purple": ("violet", "violette", "violets", "violettes"),
    "pink": ("rose", "rose", "roses", "roses"),
    "brown": ("marron", "marron", "marron", "marron"),
    "black": ("noir", "noire", "noirs", "noires"),
    "white": ("blanc", "blanche", "blancs", "blanches"),
    "grey": ("gris", "grise", "gris", "grises"),
}


def french_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The forms of a noun by template placeholder: `a` is "un cercle rouge", `the` "le cercle rouge", `of_the` "du …",
    `many` "cercles rouges", `of_many` "de cercles rouges", `the_many` "les cercles rouges", `which` "Quel"."""
    gender, singular, plural = NOUNS[noun]
    female, elided = gender == "f", singular[0] in "éo"
    if colour:
        singular, plural = f"{singular} {ADJECTIVES[colour][female]}", f"{plural} {ADJECTIVES[colour][2 + female]}"
    definite = f"l'{singular}" if elided else f"{'la' if female else 'le'} {singular}"
    return {
        "a": f"{'une' if female else 'un'} {singular}",
        "the": definite,
        "of_the": f"de {definite}" if elided or female else f"du {singular}",
        "many": plural,
        "of_many": f"d'{plural}" if elided else f"de {plural}",
        "the_many": f"les {plural}",
        "which": "Quelle" if female else "Quel",
    }


def french_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "trois cercles bleus", "une étoile rouge"."""
    words = french_forms(shape or "shape", colour)
    return words["a"] if count == 1 else f"{NUMBERS[count]} {words['many']}"


GRAMMAR = Grammar(
    code="fr",
    numbers=NUMBERS,
    yes="oui",
    no="non",
    nothing="rien",
    colours={colour: words[0] for colour, words in ADJECTIVES.items()},
    shapes={shape: NOUNS[shape][1:] for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=french_count,
    join=list_joiner(last=" et "),
    noun_forms=french_forms,
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
        "left": ("à gauche", "sur la gauche", "du côté gauche"),
        "right": ("à droite", "sur la droite", "du côté droit"),
        "top": ("en haut", "tout en haut"),
        "bottom": ("en bas", "tout en bas"),
        "middle": ("au milieu", "au centre"),
    },
    questions={
        "count": (
            "Combien y a-t-il {of_many} ?",
            "Combien {of_many} y a-t-il ?",
            "Combien {of_many} vois-tu ?",
            "Combien {of_many} y a-t-il sur l'image ?",
            "Combien {of_many} voit-on?",
            "Combien {of_many}?",
            "Compte {the_many}.",
        ),
        "colour_it": (
            "De quelle couleur est-ce ?",
            "De quelle couleur est-il ?",
            "Quelle est sa couleur ?",
            "De quelle couleur est-elle?",
            "C'est de quelle couleur ?",
        ),
        "colour_they": (
            "De quelle couleur sont-ils ?",
            "De quelle couleur sont-elles ?",
            "Quelles sont leurs couleurs?",
            "De quelles couleurs sont-ils?",
        ),
        "colour_the": ("De quelle couleur est {the} ?", "Quelle est la couleur {of_the} ?", "Quelle couleur a {the}?"),
        "colour_the_many": ("De quelle couleur sont {the_many} ?", "Quelle couleur ont {the_many}?"),
        "colour_side": ("De quelle couleur est {the} {side} ?", "Quelle est la couleur {of_the} {side}?"),
        "shape_it": (
            "Quelle forme est-ce ?",
            "Quelle est cette forme ?",
            "Quelle est sa forme ?",
            "C'est quelle forme?",
        ),
        "shape_they": ("Quelles formes sont-ce ?", "Quelle est leur forme ?", "Quelles sont ces formes?"),
        "shape_the": ("Quelle forme a {the} ?", "Quelle est la forme {of_the} ?"),
        "shape_side": ("Quelle forme est {side} ?", "Quelle forme y a-t-il {side} ?"),
        "what": (
            "Qu'est-ce que c'est ?",
            "Qu'y a-t-il sur l'image ?",
            "Que vois-tu ?",
            "Que montre l'image ?",
            "Qu'est-ce qu'il y a sur l'image?",
            "Que voit-on sur cette image ?",
        ),
        "side": ("Qu'y a-t-il {side} ?", "Que vois-tu {side} ?", "Qu'est-ce qu'il y a {side} ?", "Que voit-on {side}?"),
        "exists": (
            "Y a-t-il {a} ?",
            "Y a-t-il {a} sur l'image ?",
            "Est-ce qu'il y a {a} ?",
            "Vois-tu {a} ?",
            "Y a-t-il des {many}?",
        ),
        "caption": ("Décris l'image.", "Décris cette image.", "Dis ce que tu vois."),
        "and_many": ("Et {of_many} ?", "Et {the_many}?", "Et combien {of_many} ?"),
        "and_a": ("Et {a} ?", "Et y a-t-il {a} ?"),
        "and_side": ("Et {side} ?", "Et qu'y a-t-il {side} ?"),
        "how_many": ("Combien ?", "Combien y en a-t-il ?", "Combien sont-ils ?", "Il y en a combien?"),
    },
)
