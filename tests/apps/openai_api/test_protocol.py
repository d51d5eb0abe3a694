"""OpenAI's official client against a real server whose engine repeats prompts."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import OpenAI
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.apps.fake_engine import BLANK, BROKEN, BUSY, FakeEngine
from tests.apps.openai_api.conftest import answer, ask, data_url
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

CHAT = "/v1/chat/completions"
PROMPT = "one two three"
OTHER_IMAGE = blue_circles(2, (100, 50))


def complete(client: OpenAI, *messages: Any, **values: Any) -> ChatCompletion:
    """A whole answer, checked by the types of the client's package."""
    values = {"model": "parrot", "messages": list(messages), **values}
    response = client.chat.completions.with_raw_response.create(**values)
    return ChatCompletion.model_validate_json(response.text)


def content(completion: ChatCompletion) -> str | None:
    """The text of a whole answer."""
    return completion.choices[0].message.content


def refusal(web: httpx.Client, **body: Any) -> tuple[int, str, str]:
    """The status, the code and the parameter of a completion that is refused in the protocol's form."""
    return check_error(web.post(CHAT, json={"model": "parrot", "messages": [ask(PROMPT)], **body}))


def check_error(response: httpx.Response) -> tuple[int, str, str]:
    """The status, the code and the parameter of a response with an error."""
    error = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    assert response.headers["x-error-code"]
    return response.status_code, error["code"], error["param"]


def test_the_models_are_those_of_the_server(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["parrot", "polyglot"]
    described = openai.models.with_raw_response.retrieve("PARROT")
    assert Model.model_validate_json(described.text).id == "parrot"
    with pytest.raises(sdk.NotFoundError) as raised:
        openai.models.retrieve("some/other")
    assert raised.value.code == "model_not_found"


def test_a_question_about_an_image_is_answered(openai: OpenAI, engine: FakeEngine) -> None:
    completion = complete(openai, ask(PROMPT))
    assert completion.choices[0].model_dump(exclude_none=True) == {
        "finish_reason": "stop",
        "index": 0,
        "message": {"content": PROMPT, "role": "assistant"},
    }
    assert (completion.object, completion.model, completion.id[:9]) == ("chat.completion", "parrot", "chatcmpl-")
    assert engine.image_sizes == [(400, 200)]


def test_usage_counts_the_tokens_of_prompt_image_and_answer(openai: OpenAI, engine: FakeEngine) -> None:
    usage = complete(openai, ask(PROMPT)).usage
    assert usage is not None
    budget = engine.budget(prompt=PROMPT, language="en", turns=(), model="", max_new_tokens=1)
    assert budget.image_tokens > 0
    assert usage.prompt_tokens == budget.image_tokens + budget.prompt_tokens
    assert (usage.completion_tokens, usage.total_tokens) == (3, usage.prompt_tokens + 3)


def test_a_stream_has_the_parts_of_the_text_and_its_usage_at_the_end(openai: OpenAI, engine: FakeEngine) -> None:
    engine.hold()
    stream = openai.chat.completions.create(
        model="parrot", messages=[ask(PROMPT)], stream=True, stream_options={"include_usage": True}
    )
    chunks: list[ChatCompletionChunk] = []
    for chunk in stream:
        chunks.append(ChatCompletionChunk.model_validate_json(chunk.model_dump_json()))
        if chunk.choices and chunk.choices[0].delta.content:
            engine.release()  # the first word arrives before the others are there
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    texts = [delta.content for delta in deltas if delta.content]
    assert len(texts) > 1
    assert "".join(texts) == PROMPT
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    usage = chunks[-1].usage
    assert usage is not None
    assert (chunks[-1].choices, usage.completion_tokens) == ([], 3)


def test_a_stream_ends_with_the_words_that_clients_wait_for(web: httpx.Client) -> None:
    response = web.post(CHAT, json={"model": "parrot", "messages": [ask(PROMPT)], "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert not any("usage" in event for event in events)


def test_a_conversation_is_earlier_turns_and_a_question(openai: OpenAI, engine: FakeEngine) -> None:
    earlier = [{"role": "system", "content": "Be brief."}, ask("What is it?"), answer("a cat")]
    reply = complete(openai, *earlier, {"role": "user", "content": PROMPT}, extra_body={"language": "de"})
    (request,) = engine.requests
    assert content(reply) == PROMPT
    assert (request.turns, request.prompt, request.language) == ((("What is it?", "a cat"),), PROMPT, "de")


def test_turns_about_an_earlier_image_are_left_out(openai: OpenAI, engine: FakeEngine) -> None:
    cat, dog = ask("A cat?"), ask("A dog?", OTHER_IMAGE)
    complete(openai, cat, answer("yes"), {"role": "user", "content": "Black?"}, answer("no"), dog, answer("no"), dog)
    assert engine.image_sizes == [(100, 50)]
    assert engine.requests[0].turns == (("A dog?", "no"),)


def test_an_image_without_text_asks_for_a_caption(openai: OpenAI) -> None:
    assert content(complete(openai, ask(""))) == "an image of 400 by 200"


def test_parameters_become_options(openai: OpenAI, engine: FakeEngine) -> None:
    complete(openai, ask(PROMPT), max_completion_tokens=7, max_tokens=5, temperature=0.5, top_p=0.0, seed=-1,
             user="someone", frequency_penalty=0, n=1, store=False, tools=[], response_format={"type": "text"},
             extra_body={"repetition_penalty": 1.5, "unknown": 1, "quality": "stream"})  # fmt: skip
    options = engine.requests[0].options
    assert (options.max_new_tokens, options.temperature, options.top_p) == (7, 0.5, 0.01)
    assert (options.seed, options.repetition_penalty) == (2**32 - 1, 1.5)
    complete(openai, ask(PROMPT), max_tokens=100_000, temperature=1e-8, extra_body={"quality": "best"})
    options = engine.requests[1].options
    assert (options.max_new_tokens, options.temperature, options.quality) == (512, 0.0, "best")


def test_null_is_the_default(web: httpx.Client, engine: FakeEngine) -> None:
    names = ("max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "stream_options", "tools", "language")
    web.post(CHAT, json={"messages": [ask(PROMPT)], "model": None, **dict.fromkeys(names)}).raise_for_status()
    assert engine.requests[0].options.max_new_tokens == 64


def test_an_answer_ends_at_its_limit_or_at_a_stop_string(openai: OpenAI) -> None:
    limited = complete(openai, ask(PROMPT), max_tokens=2)
    assert (content(limited), limited.choices[0].finish_reason) == ("one two", "length")
    stopped = complete(openai, ask(PROMPT), stop=["four", "three"])
    assert (content(stopped), stopped.choices[0].finish_reason) == ("one two", "stop")
    assert content(complete(openai, ask(PROMPT), stop="one")) == ""
    stream = openai.chat.completions.create(model="parrot", messages=[ask(PROMPT)], stop="two thr", stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "one"


@pytest.mark.parametrize(("values", "parameter"), [
    ({"n": 2}, "n"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -1}, "presence_penalty"),
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": "5"}, "max_completion_tokens"),
    ({"temperature": 3}, None),
    ({"temperature": True}, "temperature"),
    ({"temperature": float("inf")}, None),
    ({"temperature": 0.5, "quality": "best"}, None),
    ({"repetition_penalty": 0.5}, None),
    ({"quality": "good"}, None),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
    ({"messages": [{"content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
    ({"messages": [{"role": "tool", "content": "a"}, ask(PROMPT)]}, "messages[0].role"),
])  # fmt: skip
def test_what_is_wrong_or_not_supported_is_refused(
    web: httpx.Client, engine: FakeEngine, values: dict[str, Any], parameter: str | None
) -> None:
    body = json.dumps({"model": "parrot", "messages": [ask(PROMPT)], **values})  # httpx refuses an infinite number
    status, code, named = check_error(web.post(CHAT, content=body))
    assert (status, code) == (400, "invalid_value")
    assert (named or "").startswith(parameter or "")
    assert (named is None) == (parameter is None)
    assert not engine.requests


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b"\xff", b'{"model":"\\ud800"}', b"null"])
def test_a_body_that_is_no_object_of_json_is_refused(web: httpx.Client, body: bytes) -> None:
    assert check_error(web.post(CHAT, content=body))[:2] == (400, "invalid_value")


@pytest.mark.parametrize(("messages", "status", "code"), [
    ([ask(PROMPT, None)], 400, "no_image"),
    ([ask(PROMPT), answer("a")], 400, "invalid_history"),
    ([{"role": "system", "content": "a"}], 400, "invalid_history"),
    ([ask("word " * 600 + "?")], 400, "context_length_exceeded"),
    ([ask(PROMPT, b"no image")], 400, "unreadable_image"),
    ([ask(PROMPT, b"")], 400, "unreadable_image"),
    ([ask(PROMPT, b"x" * 20_000_001)], 413, "too_large"),
    ([ask(PROMPT, b"x" * 23_000_000)], 413, "too_large"),
])  # fmt: skip
def test_messages_that_cannot_be_answered_are_refused(
    web: httpx.Client, messages: list[Any], status: int, code: str
) -> None:
    assert refusal(web, messages=messages)[:2] == (status, code)


@pytest.mark.parametrize(("address", "code"), [
    ("https://example.org/cat.png", "not_uploaded"),
    ("http://127.0.0.1:1/cat.png", "not_uploaded"),
    ("file:///etc/passwd", "not_uploaded"),
    ("/etc/passwd", "not_uploaded"),
    ("data:image/png,abc", "unreadable_image"),
    ("data:image/png;base64", "unreadable_image"),
    ("data:image/png;base64,§§", "unreadable_image"),
    ("data:" + "a" * 1_000 + ";base64,YQ==", "unreadable_image"),
])  # fmt: skip
def test_only_data_urls_are_read(web: httpx.Client, address: str, code: str) -> None:
    part = {"type": "image_url", "image_url": address}
    assert refusal(web, messages=[{"role": "user", "content": [part]}])[:2] == (400, code)


def test_several_images_in_a_message_are_refused(web: httpx.Client) -> None:
    both = ask(PROMPT)
    both["content"].append({"type": "image_url", "image_url": {"url": data_url(OTHER_IMAGE)}})
    assert refusal(web, messages=[both])[:2] == (400, "invalid_value")
    both["content"][-1] = both["content"][-2]
    assert web.post(CHAT, json={"model": "parrot", "messages": [both]}).status_code == 200


def test_a_data_url_may_have_lines_and_no_end(openai: OpenAI) -> None:
    url = data_url().rstrip("=")
    broken = "\n".join(url[start : start + 76] for start in range(0, len(url), 76))
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": broken}}]}
    assert content(complete(openai, message)) == "an image of 400 by 200"


@pytest.mark.parametrize(("values", "status", "code"), [
    ({"model": "gpt-5"}, 404, "model_not_found"),
    ({"language": "sw"}, 400, "unsupported_language"),
    ({"language": "tlh"}, 400, "unknown_language"),
])  # fmt: skip
def test_models_and_languages_that_there_are_not_are_refused(
    web: httpx.Client, values: dict[str, Any], status: int, code: str
) -> None:
    assert refusal(web, **values)[:2] == (status, code)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", CHAT, 405),
    ("DELETE", "/v1/models", 405),
    ("POST", "/v1/embeddings", 404),
    ("POST", "/v1/responses", 404),
    ("POST", "/v1/completions", 404),
    ("GET", "/v1", 404),
    ("GET", "/v1/files/a/b", 404),
    ("OPTIONS", "/v1/x", 404),
])  # fmt: skip
def test_what_is_not_there_is_refused_in_the_protocols_form(
    web: httpx.Client, method: str, path: str, status: int
) -> None:
    assert check_error(web.request(method, path))[:2] == (status, "not_found")


def test_a_full_queue_is_busy_and_may_be_tried_again(openai: OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(sdk.RateLimitError) as raised:
            openai.chat.completions.create(model="parrot", messages=[ask(BUSY)], stream=stream)
        assert int(raised.value.response.headers["retry-after"]) > 0


def test_an_error_of_an_answer_has_a_status_until_the_stream_begins(openai: OpenAI, web: httpx.Client) -> None:
    """Then it is an event of the stream."""
    with pytest.raises(sdk.BadRequestError, match="The answer broke off"):
        complete(openai, ask(BROKEN))
    assert refusal(web, messages=[ask(BLANK)])[:2] == (422, "empty_answer")
    with pytest.raises(sdk.APIError, match="The answer broke off"):
        list(openai.chat.completions.create(model="parrot", messages=[ask(BROKEN)], stream=True))
    text = web.post(CHAT, json={"model": "parrot", "messages": [ask(BROKEN)], "stream": True}).text
    last = json.loads(text.rstrip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["message"] == "The answer broke off. Ask again."


def test_a_server_that_loads_its_model_is_unavailable(openai: OpenAI, engine: FakeEngine) -> None:
    engine.set_status(status="loading", loaded=())
    with pytest.raises(sdk.InternalServerError) as raised:
        complete(openai, ask(PROMPT))
    assert (raised.value.status_code, raised.value.response.headers["retry-after"]) == (503, "10")
    engine.set_status(status="loading", loaded=("parrot",))  # it loads a second one
    assert content(complete(openai, ask(PROMPT))) == PROMPT


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_answer(openai: OpenAI, engine: FakeEngine, stream: bool) -> None:
    engine.hold()
    with pytest.raises(sdk.APITimeoutError):
        for _ in openai.with_options(timeout=0.3).chat.completions.create(
            model="parrot", messages=[ask(PROMPT)], stream=stream
        ):
            pass
    wait_until(lambda: engine.responses[0].outcome == "cancelled")


def test_an_internal_error_has_the_protocols_form(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_data: bytes) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("blip_space.apps.openai_api.completions.parse_body", fail)
    assert refusal(web)[:2] == (500, "internal_error")
