"""Each line of a JSON log is one object, with the fields of an answer, and nothing of what users send."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.images import ImageFile
from blip_space.options import GenerationOptions
from blip_space.serving import log_formats, observed
from blip_space.serving.observed import Answer, ObservedEngine
from blip_space.serving.response import ResponseStream
from tests.apps.fake_engine import BROKEN, PARROT, FakeEngine
from tests.example_images import blue_circles


@contextmanager
def configured(log_format: str) -> Iterator[None]:
    """A process whose log has this format."""
    root, package, answers = (logging.getLogger(name) for name in (None, "blip_space", log_formats.ANSWERS))
    handlers, root.handlers = root.handlers, []  # those of pytest
    package_handlers, package.handlers = package.handlers, []  # those of commands in earlier tests
    level = answers.level
    try:
        log_formats.configure(log_format)
        assert log_formats.current() == log_format
        yield
    finally:
        root.handlers, package.handlers = handlers, package_handlers
        answers.setLevel(level)
        logging.captureWarnings(False)


def ask(engine: ObservedEngine, prompt: str, **values: object) -> str:
    request = Request(ImageFile(blue_circles()), prompt, options=GenerationOptions(quality="stream"), **values)  # type: ignore[arg-type]
    try:
        *_, text = engine.submit(request)
    except UserError as error:
        return error.code
    return str(text)


def test_a_json_log_has_a_line_for_each_answer(capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[Answer] = []
    engine = ObservedEngine(FakeEngine(PARROT), answers.append)
    observed.current_endpoint.set("chat")
    with configured("json"):
        for prompt, language in (("my secret", "de"), (BROKEN, "en"), ("hello", "my secret")):
            ask(engine, prompt, language=language)
    text = capsys.readouterr().err
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["outcome"] for line in lines] == ["answered", "invalid_value", "unknown_language"]
    first = lines[0]
    assert first["seconds"] >= first["first_token_seconds"] >= 0
    names = ("id", "endpoint", "model", "language", "quality", "tokens", "level")
    assert [first[name] for name in names] == [1, "chat", "parrot", "de", "stream", 2, "INFO"]
    assert lines[2]["language"] == ""
    assert "secret" not in text
    assert [answer.tokens for answer in answers] == [2, 0, 0]


def test_a_text_log_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("text"):
        ask(ObservedEngine(FakeEngine(PARROT), lambda _: None), "hello")
    assert capsys.readouterr().err == ""


def test_a_traceback_is_on_the_same_line() -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        error = sys.exc_info()
    record = logging.LogRecord("blip_space.x", logging.ERROR, "x.py", 1, "it %s", ("failed\nhere",), error)
    line = log_formats.JsonFormatter().format(record)
    assert "\n" not in line
    parsed = json.loads(line)
    assert (parsed["message"], parsed["error"]) == ("it failed\nhere", "ValueError")
    assert "ValueError: one\ntwo" in parsed["traceback"]


def test_an_answer_is_observed_once_however_it_ends() -> None:
    ends: list[str] = []

    def observe(response: ResponseStream) -> ResponseStream:
        response.observe(lambda ended: ends.append(ended.outcome))
        return response

    finished = ResponseStream(deadline=time.monotonic() + 60)
    finished.publish("a", finished=True)
    observe(finished).cancel()
    failed = observe(ResponseStream(deadline=time.monotonic() + 60))
    failed.fail(UserError("It failed.", code="timed_out"))
    failed.finish()
    observe(ResponseStream(deadline=time.monotonic() + 60)).cancel()
    with pytest.raises(UserError):
        list(observe(ResponseStream(deadline=time.monotonic() - 1)))
    assert ends == ["answered", "timed_out", "cancelled", "timed_out"]
