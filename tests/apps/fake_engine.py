"""An engine that answers with the visitor's own words and waits when a test says so.

Gives the page what an `Engine` gives it, without torch and without a model. The property that tests rely on: the
reply to a prompt is that prompt, word by word, so whatever shows up somewhere else than it should is seen, and
`requests` says what the page really asked for. `hold()` lets answers get as far as their first word.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blip_space.catalogue import MBLIP_LANGUAGES, ModelSpec
from blip_space.errors import BusyError, EmptyAnswerError, ModelError, UserError
from blip_space.inference.answer import Answer
from blip_space.inference.engine import Engine, Status
from blip_space.engine.judgement import NOTHING_WRITTEN
from blip_space.inference.request import Budget, Request, measured
from blip_space.prompts import Turn

EIGHT = ("en", "de", "es", "fr", "ar", "hi", "ja", "zh")
STRANGE = "never seen"
PARROT = ModelSpec(
    "parrot",
    "parrot",
    "mt5",
    "mblip",
    1_000,
    EIGHT,
    context_tokens=64,
    knows="Repeats what you say.",
    unknown=frozenset({STRANGE}),
)
POLYGLOT = ModelSpec("polyglot", "polyglot", "mt5", "mblip", 2_000, MBLIP_LANGUAGES)

READY = Status("ready", PARROT.name, "fp32", "cpu", 0, 0, "fp32: the model is small and the answers stay exact")
BUSY = "busy"
BROKEN = "broken"
BLANK = "blank"
WORD_SECONDS = 0.005


class WordCounter:
    """Counts words, as a model counts tokens; the picture takes four."""

    query_tokens = 4

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class FakeEngine(Engine):
    """Repeats prompts. One of `busy` is refused at once, `broken` fails after its first word, and `blank` after it has
    shown what nobody sees."""

    def __init__(self, *specs: ModelSpec) -> None:
        super().__init__(specs or (PARROT,))
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.now = READY
        self._free = 0
        self._open_gate = threading.Event()
        self._open_gate.set()

    def hold(self, *, after: int = 0) -> None:
        """From now on answers wait after their first word, those to the first so many requests excepted."""
        self._free = after
        self._open_gate.clear()

    def release(self) -> None:
        """Let answers go on."""
        self._open_gate.set()

    def forget(self) -> None:
        """As after the start: ready, nothing held, nothing asked yet."""
        self.now = READY
        self.release()
        self.requests.clear()
        self.answers.clear()

    def start(self) -> None:
        """Nothing to load."""

    def stop(self) -> None:
        """Nothing to unload."""
        self.release()

    def status(self) -> Status:
        return self.now

    def submit(self, request: Request) -> Answer:
        spec = self.choose(request.model, request.language)
        if request.prompt == BUSY:
            raise BusyError("The server is busy: 32 questions are waiting. Try again in a minute.")
        self._measured(spec, request)
        self.requests.append(request)
        answer = Answer(deadline=time.monotonic() + 60)
        self.answers.append(answer)
        held = len(self.requests) > self._free
        threading.Thread(target=self._say, args=(request, answer, held), daemon=True).start()
        return answer

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        if self.now.status != "ready":
            raise ModelError(f"{self.now.model} is not loaded yet, so its tokens cannot be counted.")
        counter = WordCounter(self.choose(model, language))
        return measured(counter, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)

    def fitting(self, spec: ModelSpec) -> tuple[str, ...] | None:
        return spec.precisions

    def become(self, **changes: Any) -> None:
        """Another status, such as `status="loading"`."""
        self.now = replace(self.now, **changes)

    def _measured(self, spec: ModelSpec, request: Request) -> None:
        """`PromptError` for a question longer than the window, as a model's own composing raises it."""
        tokens = request.options.max_new_tokens
        words, language, turns = request.prompt, request.language, request.turns
        measured(WordCounter(spec), prompt=words, language=language, turns=turns, max_new_tokens=tokens)

    def _say(self, request: Request, answer: Answer, held: bool) -> None:
        text = request.prompt or f"a picture of {request.image.pixels.width} by {request.image.pixels.height}"
        shown = ""
        for place, word in enumerate(text.split(" ")):
            if answer.over:
                return
            shown = f"{shown} {word}" if place else word
            if request.options.quality == "stream" and text != BLANK:
                answer.show(shown)
            if text == BLANK:
                answer.show("\u200b")
                answer.fail(EmptyAnswerError(NOTHING_WRITTEN))
            if text == BROKEN:
                answer.fail(UserError("The answer broke off. Ask again."))
            while held and place == 0 and not self._open_gate.wait(0.01) and not answer.over:
                pass
            time.sleep(WORD_SECONDS)
        answer.show(shown)
        answer.finish()
