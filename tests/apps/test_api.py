"""Laws of the API, for a client: `/chat`, `/caption`, `/budget` and `/models`."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import CancelledError
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from blip_space.languages import LANGUAGES
from blip_space.options import CAPTION, GenerationOptions
from tests.apps.fake_engine import BROKEN, PARROT, POLYGLOT, READY, FakeEngine

TURN = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "three"}]
CHAT_DEFAULTS = {
    "prompt": "",
    "language": "en",
    "history": [],
    "model": PARROT.name,
    "max_new_tokens": 64,
    "temperature": 0.0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "seed": 0,
    "quality": "stream",
    "use_history": True,
}


def parameter_defaults(client: Client) -> dict[str, Any]:
    """Each endpoint's parameters with their defaults, as `view_api` lists them."""
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    return {
        name: {parameter["parameter_name"]: parameter["parameter_default"] for parameter in endpoint["parameters"]}
        for name, endpoint in endpoints.items()
    }


def wait_until(condition: Any, seconds: float = 60) -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_five_endpoints_have_the_documented_parameters_and_defaults(client: Client) -> None:
    model = {"model": PARROT.name}
    decoding = {"temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 0}
    long = {"max_new_tokens": 50, **decoding}
    assert parameter_defaults(client) == {
        "/chat": {"image": None, **CHAT_DEFAULTS},
        "/caption": {"image": None, "language": "en", **model, "quality": "best", **long},
        "/batch": {"files": None, "prompt": "", "language": "en", **model, "quality": "best", **long},
        "/budget": {"prompt": "", "language": "en", "history": [], **model, "max_new_tokens": 64},
        "/models": {},
    }


def test_the_api_is_documented_with_its_types(client: Client) -> None:
    text = str(client.view_api(return_format="str", print_info=False))
    assert "image: filepath (required)" in text
    assert "files: list[filepath] (required)" in text
    content = "content: str | list[dict(type: Literal['text'], text: str)]"
    assert f"history: list[dict(role: Literal['user', 'assistant'], {content})]" in text
    assert "quality: Literal['stream', 'best']" in text
    for description in (
        "values above 1 reduce repetition",
        "sampling with the same seed gives the same reply",
        "the maximum length of the reply, in tokens",
    ):
        assert text.count(f"({description})") >= 3
    assert f"language: Literal[{', '.join(map(repr, LANGUAGES))}]" in text


def test_question_and_options_reach_the_engine(client: Client, engine: FakeEngine, image_file: Path) -> None:
    reply = client.predict(
        handle_file(image_file), "hello you", language="de", history=TURN, temperature=0.5, seed=7, api_name="/chat"
    )
    assert reply == "hello you"
    (request,) = engine.requests
    assert (request.language, request.turns) == ("de", (("How many?", "three"),))
    assert (request.options.temperature, request.options.seed, request.options.max_new_tokens) == (0.5, 7, 64)
    assert engine.image_sizes == [(400, 200)]


def test_each_update_is_the_whole_text_so_far(client: Client, image_file: Path) -> None:
    job = client.submit(handle_file(image_file), "one two three four", api_name="/chat")
    updates = list(job)
    assert len(updates) > 1
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(updates))
    assert job.result() == "one two three four"


@pytest.mark.parametrize("prompt", ["", "  \n\t "])
def test_an_empty_prompt_asks_for_a_caption(client: Client, engine: FakeEngine, image_file: Path, prompt: str) -> None:
    client.predict(handle_file(image_file), prompt, api_name="/chat")
    assert engine.requests[0].prompt.strip() == ""


def test_history_can_be_left_out_of_the_prompt(client: Client, engine: FakeEngine, image_file: Path) -> None:
    client.predict(handle_file(image_file), "and now?", history=TURN, use_history=False, api_name="/chat")
    assert engine.requests[0].turns == ()


def test_a_caption_uses_beam_search_as_the_original_does(client: Client, engine: FakeEngine, image_file: Path) -> None:
    assert client.predict(handle_file(image_file), "ja", api_name="/caption") == "an image of 400 by 200"
    (request,) = engine.requests
    assert (request.language, request.prompt, request.options.max_new_tokens) == ("ja", "", 50)
    assert request.options.quality == "best"
    assert request.options == CAPTION
    client.predict(handle_file(image_file), quality="stream", api_name="/caption")
    assert engine.requests[1].options.quality == "stream"


@pytest.mark.parametrize("name", ["/caption", "/batch"])
def test_captions_take_the_decoding_options_of_a_chat(
    client: Client, engine: FakeEngine, image_file: Path, name: str
) -> None:
    generation = {"max_new_tokens": 9, "temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.5, "seed": 3}
    value: Any = handle_file(image_file) if name == "/caption" else [handle_file(image_file)]
    client.predict(value, quality="stream", **generation, api_name=name)
    assert engine.requests[0].options == GenerationOptions(**generation)  # type: ignore[arg-type]
    with pytest.raises(AppError, match=r"does not sample\. Set temperature to 0"):
        client.predict(value, temperature=0.5, api_name=name)


def test_the_budget_names_every_part_and_the_exact_prompt(client: Client) -> None:
    budget = client.predict("What is it?", "en", TURN, api_name="/budget")
    assert budget == {
        "context_tokens": 64,
        "used_tokens": 17,
        "image_tokens": 4,
        "prompt_tokens": 13,
        "reply_tokens": 0,
        "kept_turns": 1,
        "dropped_turns": 0,
        "prompt": "Question: How many? Answer: three. Question: What is it? Short answer in English:",
        "note": "",
    }


def test_dropped_turns_are_counted(client: Client) -> None:
    budget = client.predict("What is it?", "en", TURN * 20, api_name="/budget")
    assert (budget["kept_turns"], budget["dropped_turns"]) == (10, 10)


def test_models_are_listed_the_default_first(client: Client) -> None:
    first, second = client.predict(api_name="/models")
    assert first == {
        "name": PARROT.name,
        "family": "mt5",
        "architecture": "blip2",
        "parameters": 1_000,
        "languages": list(PARROT.languages),
        "precisions": ["fp32", "bf16", "int8", "int4"],
        "memory_gb": PARROT.memory_gb,
        "download_gb": None,
        "fits": ["fp32", "bf16", "int8", "int4"],
        "remote": "",
        "loaded": True,
        "default": True,
        "questions": {code: ready.to_json() for code, ready in PARROT.ready_questions.items()},
    }
    assert first["questions"]["de"]["left"] == "Was ist links?"
    assert (second["name"], second["questions"]) == (POLYGLOT.name, {})
    assert (second["name"], second["loaded"], second["default"]) == (POLYGLOT.name, False, False)


def test_two_callers_never_see_each_others_text(client: Client, url: str, engine: FakeEngine, image_file: Path) -> None:
    other = Client(url, verbose=False)
    engine.hold()
    jobs = {
        prompt: caller.submit(handle_file(image_file), prompt, api_name="/chat")
        for caller, prompt in ((client, "mine is a long secret"), (other, "yours is another one"))
    }
    wait_until(lambda: len(engine.requests) == 2)
    engine.release()
    for prompt, job in jobs.items():
        assert all(prompt.startswith(update) for update in job)
        assert job.result() == prompt
    assert all(request.turns == () for request in engine.requests)


def test_cancelling_reaches_the_engine(client: Client, engine: FakeEngine, image_file: Path) -> None:
    engine.hold()
    job = client.submit(handle_file(image_file), "never to be finished", api_name="/chat")
    wait_until(lambda: job.outputs())
    job.cancel()
    wait_until(lambda: engine.responses[0].done)
    assert job.outputs()[-1] == "never"
    with pytest.raises((CancelledError, KeyError, ValueError)):  # as documented; which one depends on timing
        job.result()


def test_a_failed_stream_ends_its_loop_and_its_result_raises_the_error(client: Client, image_file: Path) -> None:
    """The documented loop reads the result after it, or a failed answer would look complete."""
    job = client.submit(handle_file(image_file), BROKEN, api_name="/chat")
    assert set(job) <= {"", BROKEN}
    with pytest.raises(AppError, match=r"^The answer broke off\. Ask again\.$"):
        job.result()


def test_healthz_reports_the_status_and_the_error_of_a_failure(web: httpx.Client, engine: FakeEngine) -> None:
    fields = {"model": "parrot", "precision": "fp32", "device": "cpu", "waiting": 0, "running": 0}
    fields |= asdict(READY.metrics)
    assert web.get("/healthz").json() == {"status": "ready", **fields}
    engine.set_status(decode="eager", decode_reason="off: it is a parrot")
    assert web.get("/healthz").json() == {
        "status": "ready",
        **fields,
        "decode": "eager",
        "decode_reason": "off: it is a parrot",
    }
    engine.set_status(status="loading")
    assert web.get("/healthz").json()["status"] == "loading"
    engine.set_status(status="failed", error="It is not there. Download it.")
    response = web.get("/healthz")
    assert (response.status_code, response.json()["error"]) == (200, "It is not there. Download it.")
