"""An engine that repeats the prompt, and waits when a test asks it to.

Implements the protocol without torch and without a model. The reply to a prompt is that prompt, word by word, so a test
sees text that reaches the wrong user; `requests` are the requests as they were submitted. `hold()` stops answers after
their first word.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.ready_questions import ReadyQuestions
from blip_space.engine.answer_check import EMPTY_ANSWER
from blip_space.engine.detokenizer import visible_text
from blip_space.engine.request import Budget, EngineConfig, Request, measure_budget
from blip_space.errors import BusyError, EmptyAnswerError, UserError
from blip_space.history import Turn
from blip_space.languages import LANGUAGES
from blip_space.models.preparation import ImageFirstPreparation
from blip_space.options import GenerationOptions
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.protocol import STOPPED_RUNNING, STOPPING, EngineStatus, queue_full
from blip_space.serving.response import ResponseStream

EIGHT_LANGUAGES = ("en", "de", "es", "fr", "ar", "hi", "ja", "zh")
UNKNOWN_REPLY = "never seen"
READY_QUESTIONS = {
    "en": ReadyQuestions("What is this?", "How many are there?", "What is on the left?", "Drawings: dog, …"),
    "de": ReadyQuestions("Was ist das?", "Wie viele sind es?", "Was ist links?", "Zeichnungen: Hund, …"),
}
PARROT = ModelSpec(
    "parrot",
    "parrot",
    "blip2",
    "mt5",
    "mblip",
    1_000,
    EIGHT_LANGUAGES,
    context_tokens=64,
    description="Repeats the prompt.",
    unknown_image_replies=frozenset({UNKNOWN_REPLY}),
    ready_questions=READY_QUESTIONS,
)
POLYGLOT = ModelSpec("polyglot", "polyglot", "blip2", "mt5", "mblip", 2_000, tuple(LANGUAGES))

READY = EngineStatus(
    *("ready", PARROT.name, "fp32", "cpu", 0, 0, "fp32: the model is small and the answers stay exact"),
    loaded=(PARROT.name,),
)
BUSY = "busy"
BROKEN = "broken"
BLANK = "blank"
WORD_SECONDS = 0.005


class WordCounter(ImageFirstPreparation):
    """Counts words, as a tokenizer counts tokens; the image takes four."""

    query_tokens = 4

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def pixels(self, image: Any, options: Any) -> Any:
        raise NotImplementedError


class FakeEngine:
    """Repeats prompts. The prompt `busy` is refused at once, `broken` fails after its first word, and `blank` after an
    invisible character."""

    def __init__(self, *specs: ModelSpec, config: EngineConfig | None = None) -> None:
        self._offered = OfferedModels(specs or (PARROT,))
        self.specs, self.default = self._offered.specs, self._offered.default
        self.replicas = 1
        self.requests: list[Request] = []
        self.image_sizes: list[tuple[int, int]] = []
        """Of the submitted images."""

        self.responses: list[ResponseStream] = []
        self.current_status = (
            READY if self.default is PARROT else replace(READY, model=self.default.name, loaded=(self.default.name,))
        )
        self._config = (config or EngineConfig()).resolve()
        self._stopping = False
        self._not_held = 0
        self._released = threading.Event()
        self._released.set()

    def hold(self, *, after: int = 0) -> None:
        """From now on answers wait after their first word, except those to the first `after` requests."""
        self._not_held = after
        self._released.clear()

    def release(self) -> None:
        """Let the answers continue."""
        self._released.set()

    def reset(self) -> None:
        """The state after the start: ready, nothing held, no requests."""
        self.current_status = READY
        self.release()
        self.requests.clear()
        self.image_sizes.clear()
        self.responses.clear()

    def start(self) -> None:
        """Nothing to load."""

    def stop(self) -> None:
        """Nothing to unload."""
        self._stopping = True
        for response in self.responses:
            response.fail(BusyError(STOPPED_RUNNING))
        self.release()

    def status(self) -> EngineStatus:
        return self.current_status

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        return self._offered.resolve(model, language)

    def submit(self, request: Request) -> ResponseStream:
        spec = self.resolve_model(request.model, request.language)
        if self._stopping:
            raise BusyError(STOPPING)
        unfinished = sum(not response.done for response in self.responses)
        if request.prompt == BUSY or unfinished >= self._config.max_batch_size + self._config.max_waiting:
            raise BusyError(queue_full(self._config.max_waiting))
        budget = self._measure(spec, request)
        with request.image.open() as image:
            size = image.pixels.size
        self.image_sizes.append(size)
        self.requests.append(request)
        response = ResponseStream(deadline=time.monotonic() + 60)
        response.prompt_tokens = budget.image_tokens + budget.prompt_tokens
        self.responses.append(response)
        held = len(self.requests) > self._not_held
        text = request.prompt or f"an image of {size[0]} by {size[1]}"
        threading.Thread(
            target=self._answer, args=(text, response, request.options), kwargs={"held": held}, daemon=True
        ).start()
        return response

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        counter = WordCounter(self.resolve_model(model, language))
        return measure_budget(counter, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        return spec.precisions

    def set_status(self, **changes: Any) -> None:
        """Change fields of the status, such as `status="loading"`."""
        self.current_status = replace(self.current_status, **changes)

    def _measure(self, spec: ModelSpec, request: Request) -> Budget:
        """The budget of a request. `PromptError` for a question longer than the context, as `compose` raises it."""
        tokens = request.options.max_new_tokens
        prompt, language, turns = request.prompt, request.language, request.turns
        return measure_budget(WordCounter(spec), prompt=prompt, language=language, turns=turns, max_new_tokens=tokens)

    def _answer(self, text: str, response: ResponseStream, options: GenerationOptions, held: bool) -> None:
        streams, published, words = options.quality == "stream", "", text.split(" ")[: options.max_new_tokens]
        for index, word in enumerate(words):
            if response.done:
                return
            published = f"{published} {word}" if index else word
            visible = visible_text(published, options.stops, finished=index + 1 == len(words))
            if visible.stopped:
                published = visible.text
                break
            if streams and text != BLANK:
                response.publish(published if not options.stops else visible.text)
            if text == BLANK:
                response.publish("\u200b")
                response.fail(EmptyAnswerError(EMPTY_ANSWER))
            if text == BROKEN:
                response.fail(UserError("The answer broke off. Ask again."))
                return
            while held and index == 0 and not self._released.wait(0.01) and not response.done:
                pass
            time.sleep(WORD_SECONDS)
        response.tokens = index + 1
        response.publish(published)
        response.finish()
