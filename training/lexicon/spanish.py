"""The Spanish grammar: two genders, adjectives after the noun that agree in gender and number."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis")

NOUNS = {
    "circle": ("m", "círculo", "círculos"),
    "dot": ("m", "punto", "puntos"),
    "square": ("m", "cuadrado", "cuadrados"),
    "rectangle": ("m", "rectángulo", "rectángulos"),
    "triangle": ("m", "triángulo", "triángulos"),
    "star": ("f", "estrella", "estrellas"),
    "heart": ("m", "corazón", "corazones"),
    "cross": ("f", "cruz", "cruces"),
    "shape": ("f", "forma", "formas"),
    "figure": ("f", "figura", "figuras"),
    "object": ("m", "objeto", "objetos"),
    "thing": ("f", "cosa", "cosas"),
}

ADJECTIVES = {
    "red": ("rojo", "roja", "rojos", "rojas"),
    "orange": ("naranja", "naranja", "naranjas", "naranjas"),
    "yellow": ("amarillo", "amarilla", "amarillos", "amarillas"),
    "green": ("verde", "verde", "verdes", "verdes"),
    "blue": ("azul", "azul", "azules", "azules"),
    "purple": ("morado", "morada", "morados", "moradas"),
    "pink": ("rosa", "rosa", "rosas", "rosas"),
    "brown": ("marrón", "marrón", "marrones", "marrones"),
    "black": ("negro", "negra", "negros", "negras"),
    "white": ("blanco", "blanca", "blancos", "blancas"),
    "grey": ("gris", "gris", "grises", "grises"),
}


def spanish_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The forms of a noun by template placeholder: `a` is "un círculo rojo", `the` "el …", `of_the` "del círculo rojo",
    `many` "círculos rojos", `the_many` "los …", `how` "uántos círculos rojos", to which a wording adds c or C."""
    gender, singular, plural = NOUNS[noun]
    female = gender == "f"
    if colour:
        singular, plural = f"{singular} {ADJECTIVES[colour][female]}", f"{plural} {ADJECTIVES[colour][2 + female]}"
    return {
        "a": f"{'una' if female else 'un'} {singular}",
        "the": f"{'la' if female else 'el'} {singular}",
        "of_the": f"{'de la' if female else 'del'} {singular}",
        "many": plural,
        "the_many": f"{'las' if female else 'los'} {plural}",
        "how": f"{'uántas' if female else 'uántos'} {plural}",  # the wording has the c or C
    }


def spanish_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "tres círculos azules", "una estrella roja"."""
    words = spanish_forms(shape or "figure", colour)
    return words["a"] if count == 1 else f"{NUMBERS[count]} {words['many']}"


GRAMMAR = Grammar(
    code="es",
    numbers=NUMBERS,
    yes="sí",
    no="no",
    nothing="nada",
    colours={colour: words[0] for colour, words in ADJECTIVES.items()},
    shapes={shape: NOUNS[shape][1:] for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=spanish_count,
    join=list_joiner(last=" y "),
    noun_forms=spanish_forms,
    synonyms={
        "circle": ("circle", "circle", "circle", "dot"),
        "square": ("square", "square", "rectangle"),
        "triangle": ("triangle",),
        "star": ("star",),
        "heart": ("heart",),
        "cross": ("cross",),
        None: ("figure", "shape", "object", "thing"),
    },
    sides={
        "left": ("a la izquierda", "en el lado izquierdo"),
        "right": ("a la derecha", "en el lado derecho"),
        "top": ("arriba", "en la parte superior"),
        "bottom": ("abajo", "en la parte inferior"),
        "middle": ("en el centro", "en el medio"),
    },
    questions={
        "count": (
            "¿C{how} hay?",
            "¿C{how} hay en la imagen?",
            "¿C{how} ves?",
            "¿C{how} se ven?",
            "¿C{how} hay en total?",
            "C{how} hay?",
            "Cuenta {the_many}.",
        ),
        "colour_it": ("¿De qué color es?", "¿Qué color tiene?", "¿Cuál es su color?", "¿Qué color es?"),
        "colour_they": ("¿De qué color son?", "¿De qué colores son?", "¿Qué color tienen?", "¿Qué colores tienen?"),
        "colour_the": ("¿De qué color es {the}?", "¿Qué color tiene {the}?", "¿Cuál es el color {of_the}?"),
        "colour_the_many": ("¿De qué color son {the_many}?", "¿Qué color tienen {the_many}?"),
        "colour_side": ("¿De qué color es {the} {side}?", "¿Qué color tiene {the} {side}?"),
        "shape_it": ("¿Qué forma es?", "¿Qué forma tiene?", "¿Qué figura es?", "¿Qué forma es esta?"),
        "shape_they": ("¿Qué formas son?", "¿Qué forma tienen?", "¿Qué figuras son?"),
        "shape_the": ("¿Qué forma tiene {the}?", "¿Cuál es la forma {of_the}?"),
        "shape_side": ("¿Qué forma hay {side}?", "¿Qué figura está {side}?"),
        "what": (
            "¿Qué es esto?",
            "¿Qué es?",
            "¿Qué hay en la imagen?",
            "¿Qué ves?",
            "¿Qué se ve en la imagen?",
            "¿Qué muestra la imagen?",
        ),
        "side": ("¿Qué hay {side}?", "¿Qué está {side}?", "¿Qué ves {side}?", "¿Qué se ve {side}?"),
        "exists": (
            "¿Hay {a}?",
            "¿Hay {a} en la imagen?",
            "¿Ves {a}?",
            "¿Hay {many}?",
            "¿Se ve {a}?",
        ),
        "caption": ("Describe la imagen.", "Describe esta imagen.", "Di qué ves."),
        "and_many": ("¿Y {many}?", "¿Y c{how}?", "¿Y c{how} hay?"),
        "and_a": ("¿Y {a}?", "¿Y hay {a}?"),
        "and_side": ("¿Y {side}?", "¿Y qué hay {side}?"),
        "how_many": ("¿Cuántos?", "¿Cuántos hay?", "¿Cuántas hay?", "¿Cuántos son?"),
    },
)
