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

from blip_space import images
from blip_space.apps.gradio_api.endpoints import Endpoints, session_of
from blip_space.apps.page.conversation import Conversation
from blip_space.apps.page.messages import user_message
from blip_space.engine.request import Request
from blip_space.errors import ImageError
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
    decode_pixels: Callable[[bytes], Any] = vars(images)["decode_pixels"]

    def count(data: bytes) -> Any:
        decoded.append(data)
        return decode_pixels(data)

    monkeypatch.setattr(images, "decode_pixels", count)
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
