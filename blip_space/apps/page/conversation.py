"""The page's own door: what its buttons do with the conversation.

Thin: the words and pictures go to the same `/chat` that clients call, and come back as messages. Nothing is kept on the
server between two events; the conversation is in the browser. Knows messages; knows nothing of the layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from blip_space.apps.gradio_api.endpoints import HEARTBEAT_SECONDS, Endpoints
from blip_space.apps.gradio_api.parsing import parse_model, parse_prompt, parse_request
from blip_space.apps.gradio_api.upload_security import check_image
from blip_space.apps.page import choices, static, status_text, strings
from blip_space.apps.page.messages import Message, assistant_message, parse_messages, text_of, to_history, user_message
from blip_space.engine.answer_check import is_blank
from blip_space.errors import UserError
from blip_space.serving.protocol import EngineProtocol

HINT_SECONDS = 12


class Conversation:
    """Handlers of the page. Each takes raw values, since anybody may call it, and raises `UserError`s."""

    def __init__(self, engine: EngineProtocol, calls: Endpoints) -> None:
        self._engine = engine
        self._endpoints = calls
        self.limits = calls.answer_limits

    def submit(self, words: Any, messages: Any, picture: Any, busy: Any) -> list[Any]:
        """Move the question from the box into the conversation, if it can be answered at all."""
        return ["", *_begun([*_idle(messages, busy), user_message(parse_prompt(words))], picture)]

    def retry(self, messages: Any, picture: Any, busy: Any, chosen: gr.EventData) -> list[Any]:
        """Ask the same question again; what came after it goes."""
        kept, asked = _split(_idle(messages, busy), _detail(chosen, "index"))
        return _begun([*kept, asked], picture)

    def edit(self, messages: Any, picture: Any, busy: Any, chosen: gr.EventData) -> list[Any]:
        """Ask with other words in place of an earlier question; what came after it goes."""
        kept, _ = _split(_idle(messages, busy), _detail(chosen, "index"))
        return _begun([*kept, user_message(parse_prompt(_detail(chosen, "value")))], picture)

    def undo(self, words: Any, messages: Any, busy: Any, chosen: gr.EventData) -> list[Any]:
        """Take a question and its answer back; the words return to the box unless others are in it."""
        kept, asked = _split(_idle(messages, busy), _detail(chosen, "index"))
        return [parse_prompt(words) or text_of(asked), kept]

    def answer(self, messages: Any, picture: Any, language: Any, model: Any, *decoding: Any) -> Iterator[list[Message]]:
        """Write the answer to the newest question, as far as it is, again and again."""
        *earlier, asked = parse_messages(messages) or [user_message("")]
        *numbers, quality, use_history = decoding
        values = (picture, text_of(asked), language, to_history(earlier), model, *numbers, quality, use_history)
        response = self._engine.submit(parse_request(*values))
        text = ""
        for text in response.updates(HEARTBEAT_SECONDS):
            shown = strings.waiting(response.queue_position()) if is_blank(text) else text
            yield [*earlier, asked, assistant_message(shown)]
        self._hint(text, model)

    def _hint(self, reply: str, model: Any) -> None:
        """Say which model would know a picture that this one says it does not know."""
        spec = self._engine.specs.get(parse_model(model), self._engine.default)
        if reply in spec.unknown_image_replies:
            others = [one.name for one in self._engine.specs.values() if not one.unknown_image_replies]
            gr.Info(strings.unknown_image(spec.name, others), duration=HINT_SECONDS, title="")

    def validate_image(self, picture: Any) -> None:
        """Say at once what is wrong with a new picture."""
        if picture is not None:
            check_image(picture)

    def update_budget(
        self, words: Any, messages: Any, language: Any, model: Any, longest: Any, use_history: Any
    ) -> str:
        """The budget line for what would be sent now."""
        told = to_history(parse_messages(messages)) if use_history is True else []
        return status_text.budget_line(lambda: self._endpoints.budget(words, language, told, model, longest))

    def update_status(self, busy: Any) -> list[Any]:
        """The status line, and whether it is worth looking again soon: an answer may exchange the model."""
        status = self._engine.status()
        return [status_text.status_line(status), gr.Timer(active=busy is True or status.status == "loading")]

    def update_model(self, model: Any) -> list[Any]:
        """The languages and the knowledge of a model that was chosen."""
        spec = self._engine.specs.get(parse_model(model), self._engine.default)
        return [
            gr.Dropdown(choices=choices.language_choices(spec)),
            status_text.model_description(spec, self._engine.fitting_precisions(spec)),
        ]

    def load_example(self, number: Any) -> list[Any]:
        """The picture, question and language of an example."""
        shown = static.load_examples()
        if not isinstance(number, int) or not 0 <= number < len(shown):
            raise UserError("There is no such example. Reload the page.")
        example = shown[number]
        return [str(example.file), example.prompt, example.language]


def _detail(event: gr.EventData, name: str) -> Any:
    """What the browser says of an event, or None; anybody may call without saying it."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):
        return None


def _idle(messages: Any, busy: Any) -> list[Message]:
    if busy is True:
        raise UserError(strings.STILL_ANSWERING)
    return parse_messages(messages)


def _begun(messages: list[Message], picture: Any) -> list[Any]:
    """The conversation with a new question, `busy`, Stop in place of Ask, and the clock running."""
    check_image(picture)
    return [messages, True, gr.Button(visible=False), gr.Button(visible=True), gr.Timer(active=True)]


def _split(messages: list[Message], index: Any) -> tuple[list[Message], Message]:
    """What came before a question, and the question; Gradio names either of its turn's two messages."""
    place = index[0] if isinstance(index, list | tuple) else index
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(messages):
        place -= place % 2
        return messages[:place], messages[place]
    raise UserError(strings.MESSAGE_GONE)
