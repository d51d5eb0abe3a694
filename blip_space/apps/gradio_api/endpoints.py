"""The API: `/chat`, `/caption`, `/batch`, `/budget` and `/models`, named, typed and described for `view_api`.

Each takes the raw values of a call, which anybody may have written, and checks them itself. Stateless: what one call
says reaches no other. Knows the engine and the contract; knows nothing of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import gradio as gr

from blip_space import options
from blip_space.apps.gradio_api.batches import Batches, batch_update
from blip_space.apps.gradio_api.parameters import Parameters
from blip_space.apps.gradio_api.parsing import (
    parse_caption_request,
    parse_model,
    parse_prompt,
    parse_request,
    parse_task,
)
from blip_space.apps.gradio_api.upload_security import added_later, parse_files
from blip_space.history import parse_history
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

HEARTBEAT_SECONDS = 0.25
"""How soon it is noticed that the caller has left while no token comes."""

ANSWERS = "answers"
MAX_ANSWERS = 40
"""Answers in hand at once an engine, in line included: more than its line holds, so that its sentence is heard."""

BATCHES = "batches"
MAX_BATCH_CALLS = 16
"""More than the batches that may run, so that the sentence about that is heard."""


class Endpoints:
    """What visitors may call, on one engine."""

    def __init__(self, engine: EngineProtocol) -> None:
        self.batches = Batches(engine)
        self._engine = engine
        self.answer_limits = {"concurrency_id": ANSWERS, "concurrency_limit": MAX_ANSWERS * engine.replicas}
        """For every event that writes an answer."""

    def chat(
        self,
        image: Any,
        prompt: Any = "",
        language: Any = "en",
        history: Any = None,
        model: Any = "",
        max_new_tokens: Any = 64,
        temperature: Any = 0.0,
        top_p: Any = 1.0,
        repetition_penalty: Any = 1.0,
        seed: Any = 0,
        quality: Any = "stream",
        use_history: Any = True,
    ) -> Iterator[str]:
        """Ask about a picture. Streams: each update is the whole reply so far. An empty prompt asks for a caption."""
        decoding = (max_new_tokens, temperature, top_p, repetition_penalty, seed, quality)
        values = (image, prompt, language, history, model, *decoding, use_history)
        yield from _updates(self._engine.submit(parse_request(*values)))  # no variable holds the request meanwhile

    def caption(
        self,
        image: Any,
        language: Any = "en",
        model: Any = "",
        quality: Any = "best",
        max_new_tokens: Any = options.CAPTION.max_new_tokens,
        temperature: Any = 0.0,
        top_p: Any = 1.0,
        repetition_penalty: Any = 1.0,
        seed: Any = 0,
    ) -> Iterator[str]:
        """Caption a picture in one of the 96 languages, by beam search unless quality is "stream"."""
        decoding = {
            "quality": quality,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        }
        yield from _updates(self._engine.submit(parse_caption_request(image, language, model, **decoding)))

    def batch(
        self,
        files: Any,
        prompt: Any = "",
        language: Any = "en",
        model: Any = "",
        quality: Any = "best",
        max_new_tokens: Any = options.CAPTION.max_new_tokens,
        temperature: Any = 0.0,
        top_p: Any = 1.0,
        repetition_penalty: Any = 1.0,
        seed: Any = 0,
        caller: gr.Request | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Caption many pictures, or ask the same of each. Streams how far it is: `records` are those that are new since
        the last update, and all of them in the last one."""
        task = parse_task(
            prompt,
            language,
            model,
            quality=quality,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        guests, told = None, 0
        for guests in self.batches.run(session_of(caller), parse_files(files), task):
            yield batch_update(guests, guests.records[told:])
            told = len(guests.records)
        assert guests is not None
        yield batch_update(guests, guests.records)

    def budget(
        self, prompt: Any = "", language: Any = "en", history: Any = None, model: Any = "", max_new_tokens: Any = 64
    ) -> dict[str, Any]:
        """How a prompt and its history would fill the model's window, in tokens, and the text that would be sent."""
        measured = self._engine.budget(
            prompt=parse_prompt(prompt),
            language=language,
            turns=parse_history([] if history is None else history),
            model=parse_model(model),
            max_new_tokens=options.check(max_new_tokens=max_new_tokens).max_new_tokens,
        )
        return asdict(measured)

    def models(self) -> list[dict[str, Any]]:
        """The models that this server offers, the default first; `family` is the type of a model's language model and
        `architecture` the family of the whole, `fits` names the precisions that fit this server now, and is null while
        it starts."""
        loaded = self._engine.status().loaded
        return [
            {
                "name": spec.name,
                "family": spec.language_model_type,
                "architecture": spec.family,
                "parameters": spec.parameters,
                "languages": list(spec.languages),
                "precisions": list(spec.precisions),
                "memory_gb": spec.memory_gb,
                "download_gb": spec.download_gb,
                "fits": self._engine.fitting_precisions(spec),
                "loaded": spec.name in loaded,
                "default": spec.name == self._engine.default.name,
            }
            for spec in self._engine.specs.values()
        ]


def _updates(response: ResponseStream) -> Iterator[str]:
    """The text so far; closing this generator closes the response's, which cancels the request."""
    yield from response.updates(HEARTBEAT_SECONDS)


def session_of(caller: gr.Request | None) -> str:
    """Which page or client calls. A call by plain HTTP may name no session and is then one of its own, so that callers
    who have nothing to do with each other do not share one."""
    return (caller and caller.session_hash) or f"call {uuid4()}"


def register(engine: EngineProtocol, calls: Endpoints) -> None:
    """Put the endpoints into the Blocks that are being built, behind components that nobody sees."""
    values = Parameters(engine)
    with gr.Row(visible=False):
        reply, answer = gr.Textbox(label="reply"), gr.JSON(label="answer")
        chat = [
            values.image(),
            values.prompt(),
            values.language(),
            values.history(),
            values.model(),
            values.max_new_tokens(),
            *values.decoding(),
            values.quality("stream"),
            values.use_history(),
        ]
        caption = [
            values.image(),
            values.language(),
            values.model(),
            values.quality("best"),
            added_later(values.max_new_tokens(options.CAPTION.max_new_tokens)),
            *map(added_later, values.decoding()),
        ]
        budget = [values.prompt(), values.language(), values.history(), values.model(), values.max_new_tokens()]
        _open("chat", calls.chat, chat, reply, **calls.answer_limits)
        _open("caption", calls.caption, caption, reply, **calls.answer_limits)
        batch = [
            values.files(),
            values.prompt(),
            values.language(),
            values.model(),
            values.quality("best"),
            values.max_new_tokens(options.CAPTION.max_new_tokens),
            *map(added_later, values.decoding()),
        ]
        _open("batch", calls.batch, batch, answer, concurrency_id=BATCHES, concurrency_limit=MAX_BATCH_CALLS)
        _open("budget", calls.budget, budget, answer)
        _open("models", calls.models, [], answer)


def _open(name: str, call: Any, inputs: list[Any], output: Any, **limits: Any) -> None:
    gr.Button(visible=False).click(call, inputs, output, api_name=name, preprocess=False, **limits)
