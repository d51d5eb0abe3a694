"""`python -m benchmarks.clients`: many visitors at once through gradio_client, each with a conversation of his own.

Every visitor shows another picture (so many shapes of one colour) and asks about it in turns, first alone and then
beside all others. Prints how many answers were as they were alone, and how long the first word took.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image, ImageDraw

from blip_space import catalogue, settings
from blip_space.serving.threaded import ThreadedEngine

COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "pink")
QUESTIONS = (
    "How many shapes are there?",
    "What colour are they?",
    "What shapes are they?",
    "How many circles are there?",
)


def main() -> None:
    """Serve, let everyone ask alone, then all at once, and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--port", type=int, default=7897)
    given = parser.parse_args()
    settings.prepare_libraries()
    from blip_space.apps import server  # Gradio is imported once its environment is prepared

    up = server.launch(ThreadedEngine([catalogue.find_model("tiny")]), host="127.0.0.1", port=given.port)
    try:
        with tempfile.TemporaryDirectory() as folder:
            pictures = [picture(Path(folder), number) for number in range(given.clients)]
            measure(up.url, pictures, given.turns)
    finally:
        up.close()


def measure(url: str, pictures: list[Path], turns: int) -> None:
    """The same conversations one after another and all at once."""
    clients = [Client(url, verbose=False) for _ in pictures]
    alone = [talk(client, file, turns) for client, file in zip(clients, pictures, strict=True)]
    together: list[list[tuple[str, float]]] = [[] for _ in pictures]

    def visit(place: int) -> None:
        together[place] = talk(clients[place], pictures[place], turns)

    started = time.monotonic()
    visitors = [threading.Thread(target=visit, args=(place,)) for place in range(len(pictures))]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    seconds = time.monotonic() - started
    pairs = [pair for one, two in zip(alone, together, strict=True) for pair in zip(one, two, strict=True)]
    same = sum(one[0] == two[0] for one, two in pairs)
    firsts = sorted(two[1] for _, two in pairs)
    print(f"{same} of {len(pairs)} answers as alone; {len(pairs) / seconds:.1f} answers/s")
    print(f"first word after {firsts[len(firsts) // 2]:.2f} s (median), {firsts[len(firsts) * 95 // 100]:.2f} s (95 %)")


def talk(client: Client, file: Path, turns: int) -> list[tuple[str, float]]:
    """One visitor's answers, and the seconds until the first word of each."""
    history: list[dict[str, str]] = []
    heard = []
    for turn in range(turns):
        question, first, reply = QUESTIONS[turn % len(QUESTIONS)], 0.0, ""
        started = time.monotonic()
        for reply in client.submit(handle_file(file), question, history=history, api_name="/chat"):
            first = first or (time.monotonic() - started if reply else 0.0)
        heard.append((reply, first))
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return heard


def picture(folder: Path, number: int) -> Path:
    """One to four circles or squares of one colour; no two visitors' are alike."""
    image = Image.new("RGB", (400, 120 + number), "white")
    canvas = ImageDraw.Draw(image)
    count, colour = 1 + number % 4, COLOURS[number // 4 % len(COLOURS)]
    for place in range(count):
        box = (15 + 95 * place, 20, 95 + 95 * place, 100)
        (canvas.ellipse if number % 8 < 4 else canvas.rectangle)(box, fill=colour)
    file = folder / f"{number}.png"
    image.save(file)
    return file


if __name__ == "__main__":
    main()
