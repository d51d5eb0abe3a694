"""Ask again about the same image: earlier turns go along as messages."""

import blip_space

IMAGE = "assets/examples/three-blue-circles.png"

with blip_space.load("tiny") as engine:
    history: list[dict[str, str]] = []
    for question in ("How many circles are there?", "What colour are they?"):
        answer = engine.ask(IMAGE, question, history=history)
        print(f"{question} {answer}")
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
