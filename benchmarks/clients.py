"""`python -m benchmarks.clients`: many users at once through gradio_client, each with a conversation.

Every user has a different image (some shapes of one colour) and asks about it in several turns, first alone and then
together with all others. Prints how many answers are the same as alone, and the time to the first token.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

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
    """Start a server, run all conversations one by one, then all at once, and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--port", type=int, default=7897)
    args = parser.parse_args()
    settings.prepare_libraries()
    from blip_space.apps import server  # imports Gradio, after its environment is prepared

    running = server.launch(ThreadedEngine([catalogue.find_model("tiny")]), host="127.0.0.1", port=args.port)
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = [draw_image(Path(folder), number) for number in range(args.clients)]
            measure(running.url, files, args.turns)
    finally:
        running.close()


def measure(url: str, files: list[Path], turns: int) -> None:
    """Run the same conversations one by one and all at once."""
    clients = [Client(url, verbose=False) for _ in files]
    alone = [converse(client, file, turns) for client, file in zip(clients, files, strict=True)]
    together: list[list[tuple[str, float]]] = [[] for _ in files]

    def run(index: int) -> None:
        together[index] = converse(clients[index], files[index], turns)

    started = time.monotonic()
    users = [threading.Thread(target=run, args=(index,)) for index in range(len(files))]
    for user in users:
        user.start()
    for user in users:
        user.join()
    seconds = time.monotonic() - started
    expected = [reply for conversation in alone for reply, _ in conversation]
    answers = [answer for conversation in together for answer in conversation]
    same = sum(reply == text for (reply, _), text in zip(answers, expected, strict=True))
    firsts = sorted(first for _, first in answers)
    print(f"{same} of {len(answers)} answers as alone; {len(answers) / seconds:.1f} answers/s")
    print(
        f"first token after {firsts[len(firsts) // 2]:.2f} s (median), {firsts[len(firsts) * 95 // 100]:.2f} s (95 %)"
    )


def converse(client: Client, file: Path, turns: int, **options: Any) -> list[tuple[str, float]]:
    """One user's answers, and the seconds to the first token of each; `options` are those of `/chat`."""
    history: list[dict[str, str]] = []
    answers = []
    for turn in range(turns):
        question, first, reply = QUESTIONS[turn % len(QUESTIONS)], 0.0, ""
        started = time.monotonic()
        for reply in client.submit(handle_file(file), question, history=history, api_name="/chat", **options):
            first = first or (time.monotonic() - started if reply else 0.0)
        answers.append((reply, first))
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return answers


def draw_image(folder: Path, number: int) -> Path:
    """One to four circles or squares of one colour; the images of two users differ."""
    image = Image.new("RGB", (400, 120 + number), "white")
    canvas = ImageDraw.Draw(image)
    count, colour = 1 + number % 4, COLOURS[number // 4 % len(COLOURS)]
    for column in range(count):
        box = (15 + 95 * column, 20, 95 + 95 * column, 100)
        (canvas.ellipse if number % 8 < 4 else canvas.rectangle)(box, fill=colour)
    file = folder / f"{number}.png"
    image.save(file)
    return file


if __name__ == "__main__":
    main()
