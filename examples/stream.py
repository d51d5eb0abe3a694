"""Ask about an image and print the answer while it is generated."""

import sys

import blip_space

image = sys.argv[1] if len(sys.argv) > 1 else "assets/examples/octopus.png"

with blip_space.load("tiny") as engine:
    printed = ""
    for text in engine.stream(image, "Was ist das?", language="de"):  # the whole text so far
        print(text.removeprefix(printed), end="", flush=True)
        printed = text
    print()
