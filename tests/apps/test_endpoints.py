"""Memory and sessions of the endpoints and of the page's handlers, without a server."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gradio.utils import get_upload_folder

from blip_space.apps import page as pages
from blip_space.apps.gradio_api.endpoints import (
    ANSWERS,
    HEARTBEAT_SECONDS,
    MAX_ANSWERS,
    MAX_GPU_ANSWERS,
    UPDATE_SECONDS,
    Endpoints,
    max_answers,
    session_of,
    updates,
)
from blip_space.apps.page.conversation import Conversation
from blip_space.apps.page.messages import user_message
from blip_space.apps.server import MAX_THREADS
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import ImageError
from blip_space.images.decoder_process import DecoderProcess
from blip_space.options import GenerationOptions
from blip_space.serving.response import ResponseStream
from tests.apps.fake_engine import FakeEngine
from tests.example_images import blue_circles


class WeakEngine(FakeEngine):
    """Keeps only weak references to a request and its image."""

    references: list[Callable[[], object]]

    def submit(self, request: Request) -> ResponseStream:
        response = super().submit(request)
        self.references = [weakref.ref(request), weakref.ref(request.image)]
        self.requests.clear()
        return response


@pytest.fixture
def upload(_own_uploads: None) -> dict[str, Any]:
    """The value of an uploaded image in a call."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "circles.png").write_bytes(blue_circles())
    return {"path": str(folder / "circles.png"), "meta": {"_type": "gradio.FileData"}}


def chat(endpoints: Endpoints, _: FakeEngine, image: Any) -> Iterator[Any]:
    return endpoints.chat(image, "one two three")


def caption(endpoints: Endpoints, _: FakeEngine, image: Any) -> Iterator[Any]:
    return endpoints.caption(image, quality="stream")


def page(endpoints: Endpoints, engine: FakeEngine, image: Any) -> Iterator[Any]:
    options = GenerationOptions()
    decoding = (options.max_new_tokens, options.temperature, options.top_p, options.repetition_penalty, options.seed)
    return Conversation(engine, endpoints).answer(
        [user_message("one two three")], image, "en", "", *decoding, "stream", True
    )


@pytest.mark.parametrize("call", [chat, caption, page])
def test_neither_request_nor_image_is_kept_during_an_answer(
    upload: dict[str, Any], call: Callable[[Endpoints, FakeEngine, Any], Iterator[Any]]
) -> None:
    """Forty running answers kept forty images, each of a quarter of a gigabyte."""
    engine = WeakEngine()
    engine.hold()
    updates = call(Endpoints(engine), engine, upload)
    next(updates)
    gc.collect()
    assert [reference() for reference in engine.references] == [None, None]
    engine.release()
    assert list(updates)


def test_callers_without_a_session_do_not_share_one() -> None:
    """Over plain HTTP all of them were the session "", which has one batch at a time."""
    anonymous: Any = SimpleNamespace(session_hash=None)
    assert len({session_of(None), session_of(None), session_of(anonymous), session_of(anonymous)}) == 4
    named: Any = SimpleNamespace(session_hash="abc")
    assert session_of(named) == "abc"


def test_the_page_decodes_an_image_once_to_check_it(upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It was decoded when it was chosen, when the question was submitted, and for the answer."""
    decoded = list[bytes]()
    decode = DecoderProcess.decode

    def count(process: DecoderProcess, data: bytes, *arguments: Any, **options: Any) -> Any:
        decoded.append(data)
        return decode(process, data, *arguments, **options)

    monkeypatch.setattr(DecoderProcess, "decode", count)
    Path(upload["path"]).write_bytes(blue_circles(7))
    engine = FakeEngine()
    conversation = Conversation(engine, Endpoints(engine))
    conversation.validate_image(upload)
    for question in ("one", "two"):
        conversation.submit(question, [], upload, False)
    assert len(decoded) == 1
    Path(upload["path"]).write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(ImageError):
            conversation.submit("three", [], upload, False)


@pytest.mark.parametrize("call", [chat, caption, page])
def test_gradio_accepts_as_many_answers_as_the_loaded_model_is_worth(
    upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch, call: Callable[[Endpoints, FakeEngine, Any], Iterator[Any]]
) -> None:
    """The page is built before the model is loaded, and 24 of 64 users waited in Gradio's queue."""
    engine = FakeEngine()
    engine.replicas = 2
    endpoints = Endpoints(engine)
    monkeypatch.setattr(pages, "Endpoints", lambda _: endpoints)
    demo = pages.build(engine).queue()
    for event in demo.fns.values():
        demo._queue.create_event_queue_for_fn(event)  # as `launch` does
    answers = demo._queue.event_queue_per_concurrency_id[ANSWERS]
    assert answers.concurrency_limit == 2 * MAX_ANSWERS
    for rows, limit in ((16, 40), (64, 160), (0, 40)):
        engine.set_status(rows=rows)
        assert list(call(endpoints, engine, upload))
        assert answers.concurrency_limit == 2 * limit


def test_more_answers_are_accepted_than_the_queue_holds() -> None:
    for rows in (1, 16, 30, 64):
        assert max_answers(rows) > EngineConfig().resolve(rows).max_waiting
    assert max_answers(1_000) == MAX_GPU_ANSWERS < MAX_THREADS


def test_an_answer_has_some_updates_a_second() -> None:
    calls = list[Any]()

    def follow(*args: Any, **how: Any) -> Iterator[str]:
        calls.append((*args, how))
        yield "a"

    response: Any = SimpleNamespace(updates=follow)
    assert list(updates(response)) == ["a"]
    assert calls == [(HEARTBEAT_SECONDS, {"interval_seconds": UPDATE_SECONDS})]
