"""The embedded model over OpenAI's protocol answers as it does over `/chat`, and its places are free at once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from openai import OpenAI

from blip_space import catalogue
from blip_space.apps.openai_api.completions import ENDPOINT
from blip_space.serving.threaded import ThreadedEngine
from tests.apps.conftest import free_port
from tests.apps.openai_api.conftest import answer, ask, new_client
from tests.apps.test_real_answers import ROOT, run_programs
from tests.checkpoints.constant import write_constant
from tests.security.test_metrics import scrape, total
from tests.serving.fakes import wait_until

QUESTIONS = ("How many circles are there?", "What colour are they?")


@pytest.fixture(scope="module")
def real(_own_uploads: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ThreadedEngine]]:
    """The address of a server and its engine, with the embedded model and one that says a word without end."""
    from blip_space.apps import server

    endless = write_constant(tmp_path_factory.mktemp("models") / "loop", "at", positions=1_024)
    engine = ThreadedEngine([catalogue.find_model("tiny"), catalogue.find_model(str(endless), folders=True)])
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    wait_until(lambda: engine.status().status == "ready")
    yield running.url.rstrip("/"), engine
    running.close()


@pytest.fixture
def program(real: tuple[str, ThreadedEngine]) -> Iterator[OpenAI]:
    """The official client of that server."""
    with new_client(real[0]) as client:
        yield client


@pytest.mark.parametrize("language", ["en", "de"])
def test_answers_are_those_of_chat(
    real: tuple[str, ThreadedEngine], program: OpenAI, image_file: Path, language: str
) -> None:
    chat = Client(real[0], verbose=False)
    messages: list[Any] = []
    history: list[Any] = []
    for index, question in enumerate(QUESTIONS):
        expected = chat.predict(handle_file(image_file), question, language, history, api_name="/chat")
        messages.append({"role": "user", "content": question} if index else ask(question))
        completion = program.chat.completions.create(model="tiny", messages=messages, extra_body={"language": language})
        assert completion.choices[0].message.content == expected
        budget = chat.predict(question, language, history, api_name="/budget")
        assert completion.usage is not None
        assert completion.usage.prompt_tokens == budget["image_tokens"] + budget["prompt_tokens"]
        assert 0 < completion.usage.completion_tokens < 64
        messages.append(answer(expected))
        history += [{"role": "user", "content": question}, answer(expected)]


def test_a_beam_search_comes_in_one_part(program: OpenAI) -> None:
    values: Any = {"model": "tiny", "messages": [ask("What is this?")], "extra_body": {"quality": "best"}}
    whole = program.chat.completions.create(**values).choices[0].message.content
    chunks = list(program.chat.completions.create(**values, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content] == [whole]


def test_a_seed_gives_the_same_answer_again(program: OpenAI) -> None:
    values: Any = {"model": "tiny", "messages": [ask("What is this?")], "temperature": 2.0, "max_tokens": 12}
    texts = [
        program.chat.completions.create(**values, seed=seed).choices[0].message.content for seed in (1, 1, 2, 3, 4)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_a_stream_that_its_client_leaves_frees_its_place(real: tuple[str, ThreadedEngine], program: OpenAI) -> None:
    engine = real[1]
    values: Any = {"model": "loop", "messages": [ask("Go on")], "max_tokens": 512, "stream": True}
    with program.chat.completions.create(**values) as stream:
        next(chunk for chunk in stream if chunk.choices[0].delta.content)
    wait_until(lambda: engine.status().running == 0)
    with httpx.Client(base_url=real[0]) as web:
        assert total(scrape(web), "blip_space_answers_total", endpoint=ENDPOINT, outcome="cancelled") == 1


def test_the_programs_of_the_document_run(real: tuple[str, ThreadedEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    document = ROOT / "docs" / "openai.md"
    output, _ = run_programs(document, real[0])
    models, german, colour = output.splitlines()
    assert "tiny" in models
    assert german.startswith("drei ")
    assert colour == "blue"
    if shutil.which("curl") is None:
        return
    (command,) = re.findall(r"```bash\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    command = command.replace("http://127.0.0.1:7860", real[0])
    printed = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(printed)["choices"][0]["message"]["content"] == "octopus"
