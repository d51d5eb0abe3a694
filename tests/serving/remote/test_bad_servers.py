"""Servers that do what they should not: each request ends in an answer or in a sentence, and none waits for ever."""

from __future__ import annotations

import pytest

from blip_space.errors import UserError
from blip_space.options import GenerationOptions
from blip_space.serving.remote import attempts
from tests.serving.contract import QUESTION, ask
from tests.serving.remote.conftest import Open
from tests.serving.remote.openai_server import OpenAIServer

SECONDS = 20.0
"""Far more than the timeouts of the tests' engines."""


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_SECONDS", 0.01)


def end_of(engine_of: Open, model: str) -> tuple[str, str]:
    """The final text of an answer, or the code and the sentence of its error."""
    response = engine_of(model, silence=0.5).submit(ask())
    assert response.wait(SECONDS), "it hangs"
    try:
        *_, text = response
    except UserError as error:
        return error.code, str(error)
    return "answered", text


@pytest.mark.parametrize(("model", "sentence"), [
    ("status-500", "failed with status 500: 'CUDA error'"),
    ("silent", "sent nothing for 0.5 seconds"),
    ("stalls", "sent nothing for 0.5 seconds"),
    ("cut", "cut its answer off"),
    ("broken-chunks", "cannot be reached"),
    ("malformed", "no answer in the form of OpenAI's protocol"),
    ("no-choices", "no answer in the form of OpenAI's protocol"),
    ("html", "no answer in the form of OpenAI's protocol"),
    ("json", "no answer in the form of OpenAI's protocol"),
    ("nothing", "cannot be reached"),
    ("error-event", "reports an error: 'the GPU is lost'"),
    ("named-error-event", "no answer in the form of OpenAI's protocol"),
    ("strange-chunks", "empty answer"),
    ("blank", "empty answer"),
    ("withheld", "withheld its answer"),
    ("refused", "refuses the request with status 422: 'images are not supported'"),
    ("too-long", "The question is too long for the model of"),
    ("status-401", "refuses the key. The operator sets it in BLIP_SPACE_OPENAI_KEY."),
    ("status-404", "has no model 'status-404' at this address"),
    ("redirect", "redirects to another address, which is not followed"),
    ("busy", "is busy. Try again in 90 s."),
])  # fmt: skip
def test_an_answer_that_fails_ends_with_a_sentence(open_engine: Open, model: str, sentence: str) -> None:
    code, text = end_of(open_engine, model)
    assert sentence in text
    assert code != "answered"
    assert code != "internal_error"


@pytest.mark.parametrize("model", ["stays-open", "without-done", "other-role"])
def test_a_complete_answer_needs_no_proper_end(open_engine: Open, model: str) -> None:
    assert end_of(open_engine, model) == ("answered", "a red circle")


@pytest.mark.parametrize("model", ["busy-once", "broken-once"])
def test_a_request_is_sent_again_after_a_failure(open_engine: Open, server: OpenAIServer, model: str) -> None:
    code, text = end_of(open_engine, model)
    assert (code, QUESTION in text, len(server.requests)) == ("answered", True, 2)


def test_what_a_user_has_seen_is_not_asked_again(open_engine: Open, server: OpenAIServer) -> None:
    assert end_of(open_engine, "cut-once")[0] == "remote_failed"
    assert len(server.requests) == 1


@pytest.mark.parametrize("background", [True, False])
def test_an_answer_without_a_reader_is_asked_again(open_engine: Open, server: OpenAIServer, background: bool) -> None:
    request = ask()
    options = GenerationOptions(quality="stream" if background else "best")
    engine = open_engine("cut-once")
    response = engine.submit(type(request)(request.image, QUESTION, options=options, background=background))
    assert QUESTION in list(response)[-1]
    assert len(server.requests) == 2


def test_a_server_that_writes_on_beyond_the_limit_is_left(open_engine: Open, server: OpenAIServer) -> None:
    code, text = end_of(open_engine, "never-ends")
    assert code == "answered"
    assert text.startswith("more and more")
    assert len(text) < 10_000
    assert server.left.wait(SECONDS)


def test_an_answer_that_runs_in_a_loop_is_marked(open_engine: Open) -> None:
    response = open_engine("loop").submit(ask())
    assert list(response)[-1].startswith("red red")
    assert response.repeats


def test_a_server_that_refuses_the_key_is_a_failed_state(open_engine: Open) -> None:
    engine = open_engine("status-401")
    assert end_of(lambda *_, **__: engine, "")[0] == "remote_unavailable"
    assert engine.status().status == "failed"
    assert "refuses the key" in engine.status().error
