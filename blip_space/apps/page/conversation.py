"""The handlers of the page's conversation.

A question becomes a request, as in `/chat`, and its answer becomes a message. The server keeps nothing between two
events; the browser keeps the conversation. Depends on messages and the API's parsing. Must not depend on the layout.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from blip_space import options
from blip_space.apps.error_texts import PageError, describe, notice
from blip_space.apps.gradio_api.endpoints import Endpoints, updates
from blip_space.apps.gradio_api.parsing import parse_model, parse_prompt, parse_request
from blip_space.apps.gradio_api.upload_security import check_image, upload_name
from blip_space.apps.language_names import code_of_tag
from blip_space.apps.locales import tags_of
from blip_space.apps.locales import text as localized
from blip_space.apps.page import first_screen, static, status_text
from blip_space.apps.page.messages import (
    Message,
    assistant_message,
    edited_message,
    facts_of,
    parse_messages,
    text_of,
    to_history,
    user_message,
    waiting_message,
    with_facts,
)
from blip_space.apps.page.versions import replace_turn
from blip_space.catalogue import ModelSpec
from blip_space.engine.answer_check import is_blank
from blip_space.errors import ImageError
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

SETTINGS = ("language", "model", *options.RANGES, "quality", "use_history")
"""The names of the page's settings, in the order in which handlers take them."""

DEFAULTS = {name: getattr(GenerationOptions, name) for name in (*options.RANGES, "quality")} | {"use_history": True}
"""The settings beside language and model that an answer has unless its user changes them."""


class Conversation:
    """The handlers of the Chat tab. Each takes raw, untrusted values and raises `UserError` if they are invalid."""

    def __init__(self, engine: EngineProtocol, endpoints: Endpoints) -> None:
        self._engine = engine
        self._endpoints = endpoints
        self.limits = endpoints.answer_limits

    def submit(self, prompt: Any, messages: Any, image: Any, busy: Any) -> list[Any]:
        """Move the question from the text box to the conversation. `UserError` if it cannot be answered now."""
        return ["", *_submitted([*_idle_messages(messages, busy), user_message(parse_prompt(prompt))], image)]

    def retry(self, messages: Any, image: Any, busy: Any, event: gr.EventData) -> list[Any]:
        """Ask a question of the conversation again. Its answer and all messages after it become another version."""
        earlier, turn = _split(_idle_messages(messages, busy), _detail(event, "index"))
        return _submitted([*earlier, replace_turn(turn, turn[0])], image)

    def ask_again(self, messages: Any, image: Any, busy: Any) -> list[Any]:
        """Ask the last question again, with the settings as they are now. The old turn becomes another version."""
        earlier, turn = _split(_idle_messages(messages, busy), len(parse_messages(messages)) - 1)
        return _submitted([*earlier, replace_turn(turn, with_facts(turn[0], {}))], image)

    def edit(self, messages: Any, image: Any, busy: Any, event: gr.EventData) -> list[Any]:
        """Ask an edited question. The old one and all messages after it become another version."""
        earlier, turn = _split(_idle_messages(messages, busy), _detail(event, "index"))
        edited = user_message(parse_prompt(_detail(event, "value")))
        shown_before = edited_message(turn[0], _detail(event, "previous_value"))  # the browser has edited its copy
        return _submitted([*earlier, replace_turn([shown_before, *turn[1:]], edited)], image)

    def undo(self, draft: Any, messages: Any, busy: Any, event: gr.EventData) -> list[Any]:
        """Remove a question and all messages after it. Its text is put back into the text box if the box is empty."""
        earlier, turn = _split(_idle_messages(messages, busy), _detail(event, "index"))
        return [parse_prompt(draft) or text_of(turn[0]), earlier]

    def answer(self, messages: Any, image: Any, *settings: Any) -> Iterator[list[Message]]:
        """Stream the answer to the newest question. Each update is the conversation with the answer so far."""
        *earlier, question = parse_messages(messages) or [user_message("")]
        values = dict(zip(SETTINGS, settings, strict=True))
        values["language"] = _language_of(question, chosen=values["language"])
        asked_at = time.monotonic()
        response = self._endpoints.submit(
            parse_request(image, text_of(question), history=to_history(earlier), **values)
        )
        spec, text = self._spec(values["model"]), ""
        facts = answer_facts(spec, values)
        for text in updates(response):
            reply = self._waiting_message(response) if is_blank(text) else assistant_message(text, facts)
            yield [*earlier, question, reply]
        facts |= {"tokens": response.tokens, "seconds": round(time.monotonic() - asked_at, 2)}
        yield [*earlier, question, assistant_message(text, facts)]
        if text in spec.unknown_image_replies:
            other = status_text.model_for_any_image(list(self._engine.specs.values()))
            gr.Info(notice("unknown_image", localized("image_unknown", model=spec.name), model=other))

    def validate_image(self, image: Any) -> None:
        """Say in the frame why a new image cannot be read, and have the page's script remove it. Raises `UserError` if
        it cannot be checked now."""
        try:
            if image is not None:
                check_image(image)
        except ImageError as error:
            if error.code not in ("unreadable_image", "too_large"):
                raise
            gr.Info(notice(error.code, describe(error), remove="image", upload=upload_name(image)))

    def update_budget(
        self, prompt: Any, messages: Any, language: Any, model: Any, max_new_tokens: Any, use_history: Any
    ) -> str:
        """What a user should know about the room in the context if the prompt were sent now, as HTML."""
        history = to_history(parse_messages(messages)) if use_history is True else []
        values = (prompt, language, history, model, max_new_tokens)
        return status_text.budget_line(lambda: self._endpoints.budget(*values))

    def update_status(self, busy: Any, model: Any) -> list[Any]:
        """The chip, the status line, the details, and the timer of these updates, which runs while a model loads or
        answers: an answer may swap the model."""
        status = self._engine.status()
        chip = gr.Button(status_text.chip(status, self._spec(model).name), elem_classes=[status.status])
        is_changing = busy is True or status.status == "loading"
        return [chip, status_text.status_line(status), status_text.status_details(status), gr.Timer(active=is_changing)]

    def update_model(self, model: Any) -> list[Any]:
        """The language dropdown, the cards and the model description for the selected model."""
        spec = self._spec(model)
        return [
            gr.Dropdown(choices=status_text.language_choices(spec)),
            first_screen.cards(spec),
            status_text.model_description(spec, self._engine.fitting_precisions(spec)),
        ]

    def reply_language(self, headers: Mapping[str, Any]) -> str | None:
        """The code of the first language of the user that the default model supports; None if there is none."""
        codes = (code_of_tag(tag) for tag in tags_of(headers))
        return next((code for code in codes if code in self._engine.default.languages), None)

    def load_example(self, event: gr.EventData) -> list[Any]:
        """The image of an example, and the question that is asked about it once the image is shown: its text, its
        language, and an `id` by which the browser asks it only once."""
        index, examples = _detail(event, "index"), static.load_examples()
        if not isinstance(index, int) or not 0 <= index < len(examples):
            raise PageError(localized("no_such_example"))
        example = examples[index]
        asked = {"prompt": example.prompt, "language": example.language, "id": secrets.token_hex(8)}
        return [str(example.file), asked]

    def submit_example(self, example: Any, image: Any, busy: Any, language: Any) -> list[Any]:
        """Ask the question of the example that `load_example` has returned, in its language. The text box and the
        chosen `language` stay as they are."""
        if not isinstance(example, dict):
            raise PageError(localized("no_such_example"))
        _idle_messages([], busy)
        question = user_message(parse_prompt(example.get("prompt")))
        facts = {"language": example.get("language"), "instead_of": language}
        return _submitted([with_facts(question, facts)], image)

    def update_ready_questions(self, language: Any, model: Any) -> str:
        """The ready questions of the selected model in the selected language, as HTML."""
        return first_screen.ready_questions(self._spec(model), str(language))

    def submit_ready_question(
        self, language: Any, model: Any, messages: Any, image: Any, busy: Any, event: gr.EventData
    ) -> list[Any]:
        """Ask one of the ready questions. The text box stays as it is."""
        index, ready = _detail(event, "index"), self._spec(model).ready_questions.get(str(language))
        if ready is None or not isinstance(index, int) or not 0 <= index < len(ready.questions):
            raise PageError(localized("no_such_question"))
        return _submitted([*_idle_messages(messages, busy), user_message(ready.questions[index])], image)

    def _waiting_message(self, response: ResponseStream) -> Message:
        status = self._engine.status()
        loading = status.model if status.status == "loading" else ""
        return waiting_message(response.queue_position(), loading)

    def _spec(self, model: Any) -> ModelSpec:
        return self._engine.specs.get(parse_model(model), self._engine.default)


def answer_facts(spec: ModelSpec, values: dict[str, Any]) -> dict[str, Any]:
    """The facts of an answer of the model, from the settings by name, which are valid."""
    chosen = {name: values[name] for name, default in DEFAULTS.items() if values[name] != default}
    return {"model": spec.name, "language": values["language"], "options": chosen}


def _language_of(question: Message, *, chosen: Any) -> Any:
    """The language of the answer to a question: the `chosen` one, or that of an example until another is chosen."""
    facts = facts_of(question)
    return facts.get("language") if "language" in facts and facts.get("instead_of") == chosen else chosen


def _detail(event: gr.EventData, name: str) -> Any:
    """The field `name` of a browser event, or None if the caller did not send it."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):
        return None


def _idle_messages(messages: Any, busy: Any) -> list[Message]:
    if busy is True:
        raise PageError(localized("still_answering"))
    return parse_messages(messages)


def _submitted(messages: list[Message], image: Any) -> list[Any]:
    """The updates for a new question: `messages`, `busy`, Ask hidden, Stop shown, timer on. `ImageError` if invalid."""
    check_image(image)
    return [messages, True, gr.Button(visible=False), gr.Button(visible=True), gr.Timer(active=True)]


def _split(messages: list[Message], index: Any) -> tuple[list[Message], list[Message]]:
    """The messages before a turn, and those from its question on. Gradio's `index` may be that of its answer."""
    position = index[0] if isinstance(index, list | tuple) else index
    if isinstance(position, int) and not isinstance(position, bool) and 0 <= position < len(messages):
        position -= position % 2
        return messages[:position], messages[position:]
    raise PageError(localized("message_gone"))
