"""The handlers of the page's conversation.

Thin: a question becomes a request as in `/chat`, and its answer a message. Nothing is kept on the server between two
events; the conversation is in the browser. Depends on messages and the API's parsing. Must not depend on the layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from blip_space import options
from blip_space.apps.gradio_api.endpoints import Endpoints, updates
from blip_space.apps.gradio_api.parsing import parse_model, parse_prompt, parse_request
from blip_space.apps.gradio_api.upload_security import check_image
from blip_space.apps.page import static, status_text, strings
from blip_space.apps.page.messages import Message, assistant_message, parse_messages, text_of, to_history, user_message
from blip_space.catalogue import ModelSpec
from blip_space.engine.answer_check import is_blank
from blip_space.errors import UserError
from blip_space.serving.protocol import EngineProtocol

HINT_SECONDS = 12
SETTINGS = ("language", "model", *options.RANGES, "quality", "use_history")
"""The names of the page's settings, in the order in which handlers take them."""


class Conversation:
    """Handlers of the page. Each takes raw, untrusted values and raises `UserError`s."""

    def __init__(self, engine: EngineProtocol, endpoints: Endpoints) -> None:
        self._engine = engine
        self._endpoints = endpoints
        self.limits = endpoints.answer_limits

    def submit(self, prompt: Any, messages: Any, image: Any, busy: Any) -> list[Any]:
        """Move the question from the box into the conversation, if it can be answered at all."""
        return ["", *_submitted([*_idle_messages(messages, busy), user_message(parse_prompt(prompt))], image)]

    def retry(self, messages: Any, image: Any, busy: Any, event: gr.EventData) -> list[Any]:
        """Ask the same question again; everything after it is removed."""
        earlier, question = _split(_idle_messages(messages, busy), _detail(event, "index"))
        return _submitted([*earlier, question], image)

    def edit(self, messages: Any, image: Any, busy: Any, event: gr.EventData) -> list[Any]:
        """Ask the edited question instead of an earlier one; everything after it is removed."""
        earlier, _ = _split(_idle_messages(messages, busy), _detail(event, "index"))
        return _submitted([*earlier, user_message(parse_prompt(_detail(event, "value")))], image)

    def undo(self, draft: Any, messages: Any, busy: Any, event: gr.EventData) -> list[Any]:
        """Remove a question and its answer; the question returns to the box unless the box is in use."""
        earlier, question = _split(_idle_messages(messages, busy), _detail(event, "index"))
        return [parse_prompt(draft) or text_of(question), earlier]

    def answer(self, messages: Any, image: Any, *settings: Any) -> Iterator[list[Message]]:
        """Stream the answer to the newest question: each update is the conversation with the text so far."""
        *earlier, question = parse_messages(messages) or [user_message("")]
        values = dict(zip(SETTINGS, settings, strict=True))
        response = self._endpoints.submit(
            parse_request(image, text_of(question), history=to_history(earlier), **values)
        )
        text = ""
        for text in updates(response):
            reply = strings.waiting(response.queue_position()) if is_blank(text) else text
            yield [*earlier, question, assistant_message(reply)]
        spec = self._spec(values["model"])
        if text in spec.unknown_image_replies:
            hint = status_text.unknown_image_hint(spec, list(self._engine.specs.values()))
            gr.Info(hint, duration=HINT_SECONDS, title="")

    def validate_image(self, image: Any) -> None:
        """Report at once what is wrong with a new image."""
        if image is not None:
            check_image(image)

    def update_budget(
        self, prompt: Any, messages: Any, language: Any, model: Any, max_new_tokens: Any, use_history: Any
    ) -> str:
        """The budget line of the prompt that would be sent now."""
        history = to_history(parse_messages(messages)) if use_history is True else []
        values = (prompt, language, history, model, max_new_tokens)
        return status_text.budget_line(lambda: self._endpoints.budget(*values))

    def update_status(self, busy: Any) -> list[Any]:
        """The status line, and whether to poll it again: an answer may swap the model."""
        status = self._engine.status()
        return [status_text.status_line(status), gr.Timer(active=busy is True or status.status == "loading")]

    def update_model(self, model: Any) -> list[Any]:
        """The languages and the description of the selected model."""
        spec = self._spec(model)
        return [
            gr.Dropdown(choices=status_text.language_choices(spec)),
            status_text.model_description(spec, self._engine.fitting_precisions(spec)),
        ]

    def load_example(self, index: Any) -> list[Any]:
        """The image, question and language of an example."""
        examples = static.load_examples()
        if not isinstance(index, int) or not 0 <= index < len(examples):
            raise UserError("There is no such example. Reload the page.")
        example = examples[index]
        return [str(example.file), example.prompt, example.language]

    def _spec(self, model: Any) -> ModelSpec:
        return self._engine.specs.get(parse_model(model), self._engine.default)


def _detail(event: gr.EventData, name: str) -> Any:
    """A detail of a browser event; None for a caller who sent none."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):
        return None


def _idle_messages(messages: Any, busy: Any) -> list[Message]:
    if busy is True:
        raise UserError(strings.STILL_ANSWERING)
    return parse_messages(messages)


def _submitted(messages: list[Message], image: Any) -> list[Any]:
    """The conversation with a new question, `busy`, Stop in place of Ask, and an active timer."""
    check_image(image)
    return [messages, True, gr.Button(visible=False), gr.Button(visible=True), gr.Timer(active=True)]


def _split(messages: list[Message], index: Any) -> tuple[list[Message], Message]:
    """The messages before a question, and the question. Gradio's index is that of either message of the turn."""
    position = index[0] if isinstance(index, list | tuple) else index
    if isinstance(position, int) and not isinstance(position, bool) and 0 <= position < len(messages):
        position -= position % 2
        return messages[:position], messages[position]
    raise UserError(strings.MESSAGE_GONE)
