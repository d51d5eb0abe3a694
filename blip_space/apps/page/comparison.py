"""Answers one question in two ways, which may differ in model, language and settings.

Both answers are generated together if the models are in memory, else one after another. Depends on messages and the
API's parsing. Must not depend on the layout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from blip_space.apps.error_texts import describe
from blip_space.apps.gradio_api.endpoints import HEARTBEAT_SECONDS, UPDATE_SECONDS, Endpoints
from blip_space.apps.gradio_api.parsing import parse_model, parse_prompt, parse_request
from blip_space.apps.gradio_api.upload_security import check_image
from blip_space.apps.locales import text as localized
from blip_space.apps.page import static
from blip_space.apps.page.conversation import SETTINGS, answer_facts
from blip_space.apps.page.messages import (
    Message,
    assistant_message,
    notice_message,
    parse_messages,
    text_of,
    to_history,
    user_message,
    waiting_message,
)
from blip_space.catalogue import ModelSpec
from blip_space.engine.answer_check import is_blank
from blip_space.engine.request import Request
from blip_space.errors import BusyError, UserError
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream


class Way:
    """One of the two answers: not started, running, or done."""

    def __init__(self, spec: ModelSpec, request: Request, facts: dict[str, Any]) -> None:
        self.spec, self.request = spec, request
        self.done = False
        self.reply = waiting_message(None)
        """The message of the answer so far, or of the error."""

        self._facts = facts
        self._started_at = 0.0
        self._response: ResponseStream | None = None

    def start(self, submit: Callable[[Request], ResponseStream], *, may_wait: bool) -> bool:
        """Submit the request. Returns whether that had an effect: with `may_wait` a refusal because too many answers
        of this user run has none."""
        self._started_at = time.monotonic()
        try:
            self._response = submit(self.request)
        except UserError as error:
            if may_wait and isinstance(error, BusyError) and error.code == "too_many_requests":
                return False
            self._fail(error)
        return True

    def update(self) -> None:
        """Read the answer so far."""
        if self._response is None or self.done:
            return
        try:
            text, self.done = self._response.snapshot()
        except UserError as error:
            self._fail(error)
            return
        if self.done:
            seconds = round(time.monotonic() - self._started_at, 2)
            self._facts |= {"tokens": self._response.tokens, "seconds": seconds}
        is_waiting = is_blank(text) and not self.done
        position = self._response.queue_position()
        self.reply = waiting_message(position) if is_waiting else assistant_message(text, self._facts)

    def wait(self, seconds: float) -> None:
        """Wait at most that long for the end."""
        if self._response is not None:
            self._response.wait(seconds)

    def cancel(self) -> None:
        """Cancel the rest of the answer."""
        if self._response is not None:
            self._response.cancel()

    def _fail(self, error: UserError) -> None:
        self.done, self.reply = True, notice_message(describe(error))


class Comparison:
    """The handler of the panel that compares two ways."""

    def __init__(self, engine: EngineProtocol, endpoints: Endpoints) -> None:
        self._engine = engine
        self._endpoints = endpoints
        self.limits = endpoints.answer_limits

    def compare(self, prompt: Any, messages: Any, image: Any, use_history: Any, *settings: Any) -> Iterator[list[Any]]:
        """Stream both answers to the question in the box, or else to the last one of the conversation: each update is
        the messages of both ways, and a note on how they are generated. `settings` are those of the first way, then
        those of the second one, without `use_history`. Raises `UserError` for an invalid value."""
        check_image(image)
        earlier, question = _question(parse_prompt(prompt), parse_messages(messages))
        count = len(SETTINGS) - 1
        ways = [
            self._way(earlier, question, image, dict(zip(SETTINGS, [*values, use_history], strict=True)))
            for values in (settings[:count], settings[count:])
        ]
        for note in self._run(ways):
            yield [*([question, way.reply] for way in ways), note]

    def spec(self, model: Any) -> ModelSpec:
        """The model of a raw name, or the default if there is none of that name."""
        return self._engine.specs.get(parse_model(model), self._engine.default)

    def _way(self, earlier: list[Message], question: Message, image: Any, values: dict[str, Any]) -> Way:
        request = parse_request(image, text_of(question), history=to_history(earlier), **values)
        spec = self.spec(values["model"])
        return Way(spec, request, answer_facts(spec, values))

    def _run(self, ways: list[Way]) -> Iterator[str]:
        """Start and update the ways until both are done. Yields the note at each update."""
        loaded = self._engine.status().loaded
        names = {way.spec.name for way in ways}
        waiting = sorted(ways, key=lambda way: way.spec.name not in loaded)
        is_together = len(names) == 1 or names <= set(loaded)
        note = _note("compare_together") if is_together else _note("compare_in_turn", model=waiting[-1].spec.name)
        running, yielded_at, shown = list[Way](), 0.0, list[Message]()
        try:
            while waiting or running:
                while waiting and (is_together or not running):
                    if waiting[0].start(self._endpoints.submit, may_wait=bool(running)):
                        running.append(waiting.pop(0))
                    else:
                        is_together, note = False, _note("compare_in_turn_limited")
                for way in running:
                    way.update()
                running = [way for way in running if not way.done]
                replies = [way.reply for way in ways]
                if replies != shown or time.monotonic() - yielded_at > HEARTBEAT_SECONDS:
                    yielded_at, shown = time.monotonic(), replies
                    yield note
                if running:
                    running[0].wait(UPDATE_SECONDS)
        finally:
            for way in ways:
                way.cancel()


def _question(prompt: str, messages: list[Message]) -> tuple[list[Message], Message]:
    """The messages before the question that is compared, and the question."""
    if prompt.strip() or len(messages) < 2:
        return messages, user_message(prompt)
    start = (len(messages) - 1) // 2 * 2
    return messages[:start], user_message(text_of(messages[start]))


def _note(key: str, **values: object) -> str:
    return static.render_template("comparison_note.html", sentence=localized(key, **values))
