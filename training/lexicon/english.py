"""The English grammar: articles, plurals, British and American spelling."""

from __future__ import annotations

from training.lexicon.grammar import Grammar, list_joiner

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")

NOUNS = {
    "circle": ("circle", "circles"),
    "disc": ("disc", "discs"),
    "dot": ("dot", "dots"),
    "ball": ("ball", "balls"),
    "square": ("square", "squares"),
    "box": ("box", "boxes"),
    "rectangle": ("rectangle", "rectangles"),
    "triangle": ("triangle", "triangles"),
    "star": ("star", "stars"),
    "heart": ("heart", "hearts"),
    "cross": ("cross", "crosses"),
    "plus": ("plus", "pluses"),
    "plus sign": ("plus sign", "plus signs"),
    "shape": ("shape", "shapes"),
    "object": ("object", "objects"),
    "thing": ("thing", "things"),
    "figure": ("figure", "figures"),
    "item": ("item", "items"),
}

COLOURS = {
    "red": "red",
    "orange": "orange",
    "yellow": "yellow",
    "green": "green",
    "blue": "blue",
    "purple": "purple",
    "pink": "pink",
    "brown": "brown",
    "black": "black",
    "white": "white",
    "grey": "grey",
}


def english_forms(noun: str, colour: str | None) -> dict[str, str]:
    """The forms of a noun by template placeholder: `one` is "red circle", `a` "a red circle", `many` "red circles"."""
    singular, plural = (f"{COLOURS[colour]} {word}" if colour else word for word in NOUNS[noun])
    return {"one": singular, "a": f"{'an' if singular[0] in 'aeiou' else 'a'} {singular}", "many": plural}


def english_count(count: int, shape: str | None, colour: str | None) -> str:
    """The phrase for some shapes in a colour: "three blue circles", "an orange star"."""
    words = english_forms(shape or "shape", colour)
    return words["a"] if count == 1 else f"{NUMBERS[count]} {words['many']}"


GRAMMAR = Grammar(
    code="en",
    numbers=NUMBERS,
    yes="yes",
    no="no",
    nothing="nothing",
    colours=COLOURS,
    shapes={shape: NOUNS[shape] for shape in ("circle", "square", "triangle", "star", "heart", "cross")},
    count_phrase=english_count,
    join=list_joiner(last=" and "),
    noun_forms=english_forms,
    synonyms={
        "circle": ("circle", "circle", "circle", "disc", "dot", "ball"),
        "square": ("square", "square", "square", "box", "rectangle"),
        "triangle": ("triangle",),
        "star": ("star",),
        "heart": ("heart",),
        "cross": ("cross", "cross", "plus", "plus sign"),
        None: ("shape", "shape", "object", "thing", "figure", "item"),
    },
    sides={
        "left": ("on the left", "on the left side", "at the left", "to the left", "on the far left"),
        "right": ("on the right", "on the right side", "at the right", "to the right", "on the far right"),
        "top": ("at the top", "on top", "at the very top", "in the upper part"),
        "bottom": ("at the bottom", "at the very bottom", "on the bottom", "in the lower part"),
        "middle": ("in the middle", "in the centre", "in the center", "at the center"),
    },
    questions={
        "count": (
            "How many {many} are there?",
            "How many {many} are there?",
            "How many {many}?",
            "How many {many} are in the picture?",
            "How many {many} do you see?",
            "How many {many} can you see in this image?",
            "How many {many} does the picture show?",
            "How many {many} are shown?",
            "What is the number of {many}?",
            "Count the {many}.",
            "Count {many}.",
            "Can you count the {many}?",
        ),
        "colour_it": (
            "What colour is it?",
            "What color is it?",
            "What is its colour?",
            "What's its color?",
            "What color is this?",
            "What colour is that?",
            "Which colour does it have?",
            "Which color is it?",
        ),
        "colour_they": (
            "What colour are they?",
            "What color are they?",
            "Which colours are they?",
            "What colors do they have?",
            "What is their colour?",
            "Which colour do they have?",
            "What color are these?",
        ),
        "colour_the": (
            "What colour is the {one}?",
            "What color is the {one}?",
            "What is the colour of the {one}?",
            "What is the color of the {one}?",
            "Which color does the {one} have?",
            "Tell me the colour of the {one}.",
            "Name the color of the {one}.",
        ),
        "colour_the_many": (
            "What colour are the {many}?",
            "What color are the {many}?",
            "What is the color of the {many}?",
            "What are the colours of the {many}?",
            "Which colours do the {many} have?",
            "What colors are the {many}?",
        ),
        "colour_side": (
            "What colour is the {one} {side}?",
            "What color is the {one} {side}?",
            "What is the colour of the {one} {side}?",
            "What color is the one {side}?",
        ),
        "shape_it": (
            "What shape is it?",
            "What shape is this?",
            "Which shape is it?",
            "What is its shape?",
            "What kind of shape is this?",
            "Which shape do you see?",
            "What shape is in the picture?",
        ),
        "shape_they": (
            "What shape are they?",
            "What shapes are they?",
            "Which shapes are they?",
            "What are they?",
            "What shapes are these?",
            "What shapes are there?",
        ),
        "shape_the": (
            "What shape is the {one}?",
            "Which shape does the {one} have?",
            "What is the shape of the {one}?",
        ),
        "shape_side": (
            "What shape is {side}?",
            "Which shape is {side}?",
            "What shape is the one {side}?",
            "What is the shape of the {one} {side}?",
        ),
        "what": (
            "What is this?",
            "What's this?",
            "What is in the picture?",
            "What is in this image?",
            "What is it?",
            "What do you see?",
            "What can you see?",
            "What does the picture show?",
            "What's in the image?",
            "What is shown here?",
            "What is there?",
        ),
        "side": (
            "What is {side}?",
            "What's {side}?",
            "What do you see {side}?",
            "What is there {side}?",
            "What can be seen {side}?",
        ),
        "exists": (
            "Is there {a}?",
            "Is there {a} in the picture?",
            "Is there {a} in this image?",
            "Do you see {a}?",
            "Can you see {a}?",
            "Are there any {many}?",
            "Does the picture show {a}?",
            "Are there {many}?",
        ),
        "caption": (
            "Describe the picture.",
            "Describe the image.",
            "Describe this picture",
            "Caption this.",
            "Write a caption.",
            "Say what you see.",
            "Tell me what is in the picture.",
        ),
        "and_many": ("And {many}?", "And how many {many}?", "How about {many}?", "And the {many}?"),
        "and_a": ("And {a}?", "And is there {a}?", "What about {a}?", "Or {a}?"),
        "and_side": ("And {side}?", "What about {side}?", "And what is {side}?", "How about {side}?"),
        "how_many": ("How many?", "How many are there?", "How many of them are there?", "How many are they?"),
    },
)
