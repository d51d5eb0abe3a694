"""The API: `/chat`, `/caption`, `/batch`, `/budget` and `/models`, named, typed and described for `view_api`.

Each endpoint checks the raw, untrusted values of a call. Stateless: nothing of one call is kept for another. Depends on
the engine's protocol, and on the parsing of calls. Must not import the page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import gradio as gr

from blip_space import options
from blip_space.apps.gradio_api.batches import Batches, batch_update
from blip_space.apps.gradio_api.parameters import NUMBERS, SAMPLING, make_inputs
from blip_space.apps.gradio_api.parsing import (
    parse_caption_request,
    parse_model,
    parse_prompt,
    parse_request,
    parse_task,
)
from blip_space.apps.gradio_api.upload_security import parse_files
from blip_space.engine.request import Request
from blip_space.history import parse_history
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

HEARTBEAT_SECONDS = 0.25
"""How often a stream without new tokens checks whether its caller has disconnected."""

ANSWERS = "answers"
MAX_ANSWERS, MAX_GPU_ANSWERS = 40, 200
"""Concurrent requests per engine, with waiting ones: more than its queue holds, so callers get the queue's error. The
second is the limit for a model that answers many at once, as the server's `MAX_THREADS` allows."""

UPDATE_SECONDS = 1 / 15
"""The least time between two updates of an answer; each update costs Gradio 1 ms in the process of the engine."""

BATCHES = "batches"
MAX_BATCH_CALLS = 16
"""Concurrent calls: more than `MAX_BATCHES`, so that callers get the error about that limit."""


class Endpoints:
    """The handlers of the API's endpoints, for one engine."""

    def __init__(self, engine: EngineProtocol) -> None:
        self.batches = Batches(engine)
        self._engine = engine
        self.answer_limits: dict[str, Any] = {
            "concurrency_id": ANSWERS,
            "concurrency_limit": MAX_ANSWERS * engine.replicas,
        }
        """Gradio's concurrency settings for every event that generates an answer, until a model is loaded."""

        self.blocks: Any = None
        """Gradio's Blocks in which the endpoints are registered."""

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
        """Ask about an image; an empty prompt asks for a caption. Streams: each update is the complete text so far."""
        decoding = _decoding_options(quality, max_new_tokens, temperature, top_p, repetition_penalty, seed)
        values = {"language": language, "history": history, "model": model, "use_history": use_history, **decoding}
        yield from updates(self.submit(parse_request(image, prompt, **values)))  # no variable keeps the image

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
        """Caption an image in one of the 96 languages, by beam search unless quality is "stream"."""
        decoding = _decoding_options(quality, max_new_tokens, temperature, top_p, repetition_penalty, seed)
        yield from updates(self.submit(parse_caption_request(image, language, model, **decoding)))

    def submit(self, request: Request) -> ResponseStream:
        """Queue a request, and set Gradio's limit of concurrent answers to what the loaded models decode at once."""
        # the page is built before a model is loaded, and Gradio has no public way to change a limit after that
        queues = getattr(getattr(self.blocks, "_queue", None), "event_queue_per_concurrency_id", {})
        if answers := queues.get(ANSWERS):
            answers.concurrency_limit = max_answers(self._engine.status().rows) * self._engine.replicas
        return self._engine.submit(request)

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
        """Caption many images, or ask one prompt about each. Streams progress: `records` has the captions since the
        last update; in the final update it has all captions."""
        decoding = _decoding_options(quality, max_new_tokens, temperature, top_p, repetition_penalty, seed)
        task = parse_task(prompt, language, model, **decoding)
        job, sent = None, 0
        for job in self.batches.run(session_of(caller), parse_files(files), task):
            yield batch_update(job, job.records[sent:])
            sent = len(job.records)
        assert job is not None
        yield batch_update(job, job.records)

    def budget(
        self, prompt: Any = "", language: Any = "en", history: Any = None, model: Any = "", max_new_tokens: Any = 64
    ) -> dict[str, Any]:
        """How many tokens of the context a prompt and its history would use, and the text that the model would get."""
        budget = self._engine.budget(
            prompt=parse_prompt(prompt),
            language=language,
            turns=parse_history([] if history is None else history),
            model=parse_model(model),
            max_new_tokens=options.check(max_new_tokens=max_new_tokens).max_new_tokens,
        )
        return asdict(budget)

    def models(self) -> list[dict[str, Any]]:
        """The models that this server offers, the default first. `family` is the type of the language model,
        `architecture` the vision-language family; `fits` has the precisions in which the model fits the server's
        memory now, or is null while the server starts. `remote` is the host that answers, or empty.
        `questions` has, by the language's code, questions that the model answers well (`what`, `how_many`, `left`) and
        a line of what it `knows`; it is empty for most models."""
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
                "remote": spec.server_host,
                "loaded": spec.name in loaded,
                "default": spec.name == self._engine.default.name,
                "questions": {code: ready.to_json() for code, ready in spec.ready_questions.items()},
            }
            for spec in self._engine.specs.values()
        ]


def _decoding_options(*values: Any) -> dict[str, Any]:
    names = ("quality", "max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed")
    return dict(zip(names, values, strict=True))


def updates(response: ResponseStream) -> Iterator[str]:
    """Yields the text so far, several times a second. Closing this generator cancels the request."""
    yield from response.updates(HEARTBEAT_SECONDS, interval_seconds=UPDATE_SECONDS)


def max_answers(rows: int) -> int:
    """The limit of concurrent requests for an engine that decodes `rows` at once; 0 rows means not known yet."""
    return min(MAX_GPU_ANSWERS, max(MAX_ANSWERS, 5 * rows // 2))


def session_of(caller: gr.Request | None) -> str:
    """The name of the caller's session. A plain HTTP call may have no session; each such call gets a new name, so that
    unrelated callers do not share a session."""
    return (caller and caller.session_hash) or f"call {uuid4()}"


def register(engine: EngineProtocol, endpoints: Endpoints) -> None:
    """Add the endpoints to the current Blocks, with invisible components."""
    endpoints.blocks = gr.context.Context.root_block

    def add(handler: Callable[..., Any], output: Any, *, later: Collection[str] = (), **limits: Any) -> None:
        click, inputs = gr.Button(visible=False).click, make_inputs(handler, engine, later=later)
        click(handler, inputs, output, api_name=handler.__name__, preprocess=False, **limits)

    with gr.Row(visible=False, elem_id="endpoints"):  # which the page of a browser leaves out
        reply, answer = gr.Textbox(label="reply"), gr.JSON(label="answer")
        add(endpoints.chat, reply, **endpoints.answer_limits)
        add(endpoints.caption, reply, later=NUMBERS, **endpoints.answer_limits)
        add(endpoints.batch, answer, later=SAMPLING, concurrency_id=BATCHES, concurrency_limit=MAX_BATCH_CALLS)
        add(endpoints.budget, answer)
        add(endpoints.models, answer)
