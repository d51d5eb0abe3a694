"""The API in front of real models, called as the API page and the README show.

One server: the embedded model, and two that generate only spaces, or one word without end.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from blip_space import catalogue
from blip_space.engine.answer_check import EMPTY_ANSWER
from blip_space.serving.threaded import ThreadedEngine
from tests.apps.conftest import free_port
from tests.apps.test_api import wait_until
from tests.apps.test_bad_input import server_events
from tests.checkpoints.constant import SPACE, write_constant

ROOT = Path(__file__).resolve().parents[2]
ENDPOINTS = ("/chat", "/caption", "/batch", "/budget", "/models")
HISTORY = [
    {"role": "user", "metadata": None, "options": None, "content": [{"text": "How many circles", "type": "text"}]},
    {"role": "assistant", "metadata": {"title": None}, "content": [{"type": "text", "text": "three"}], "id": 7},
]


@pytest.fixture(scope="module")
def real(_own_uploads: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server, once its model is ready."""
    from blip_space.apps import server

    root = tmp_path_factory.mktemp("models")
    written = [write_constant(root / "blank", SPACE), write_constant(root / "loop", "at")]
    folders = [catalogue.find_model(str(folder), folders=True) for folder in written]
    engine = ThreadedEngine([catalogue.find_model("tiny"), *folders])
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    wait_until(lambda: engine.status().status == "ready", 60)
    yield running.url.rstrip("/")
    running.close()


@pytest.fixture(scope="module")
def program(real: str) -> Client:
    return Client(real, verbose=False)


@pytest.fixture
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the checkout, where the documents' programs find their images."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def info(real: str) -> Any:
    """The data of the API page."""
    return httpx.get(f"{real}/gradio_api/info", timeout=20).json()["named_endpoints"]


@pytest.mark.usefixtures("_in_the_project")
@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_examples_of_the_api_page_are_answered(program: Client, info: Any, name: str) -> None:
    """They were Gradio's: an image by URL, which is refused, a PDF in a batch, a temperature of 3."""
    values = {value["parameter_name"]: value["example_input"] for value in info[name]["parameters"]}
    reply = program.predict(**values, api_name=name)
    assert reply
    if name == "/batch":
        assert [record["caption"] for record in reply["records"]] == ["octopus"]


@pytest.mark.usefixtures("_in_the_project")
@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_snippet_pasted_from_the_api_page_prints_an_answer(info: Any, name: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(info[name]["code_snippets"]["python"], {})
    assert printed.getvalue().splitlines()[-1] not in ("", "None")


@pytest.mark.usefixtures("_in_the_project")
def test_the_programs_of_the_api_document_run(real: str) -> None:
    output, names = run_programs(ROOT / "docs" / "api.md", real)
    assert names["reply"] == "drei"
    assert "blau\nblau\n" in output  # the last update, and the result
    assert output.endswith("octopus.png Oktopus\nfour-bananas.png Banane × 4\nthree\n")


@pytest.mark.usefixtures("_in_the_project")
def test_the_programs_of_the_readme_run(real: str) -> None:
    output, _ = run_programs(ROOT / "README.md", real)
    assert output.startswith("octopus\n")
    assert "\nOktopus\n['octopus', 'banana × 4']\n" in output
    assert output.endswith("\ndrei\n")


def run_programs(document: Path, url: str) -> tuple[str, dict[str, Any]]:
    """What a document's Python prints, one block after another, and the names that it has then."""
    printed, names = io.StringIO(), dict[str, Any]()
    for block in re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        with contextlib.redirect_stdout(printed):
            exec(block.replace("http://127.0.0.1:7860", url), names)
    return printed.getvalue(), names


@pytest.mark.parametrize("content", ["How many circles", ["How many", {"type": "input_text", "text": "circles"}]])
def test_both_forms_of_a_history_reach_the_prompt(program: Client, image_file: Path, content: Any) -> None:
    """The case history-of-gradio-6: `content` as a list of parts was refused as having no text."""
    history_of_parts = [{"role": "user", "content": content}, HISTORY[1]]
    for history in (history_of_parts, HISTORY):
        budget = program.predict("What colour are they?", history=history, api_name="/budget")
        assert "How many circles three. " in budget["prompt"]
        values = {"history": history, "api_name": "/chat"}
        assert program.predict(handle_file(image_file), "What colour are they?", **values) == "blue"


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_an_empty_answer_is_an_error(program: Client, image_file: Path, quality: str) -> None:
    """The case blank-caption over the API: `/chat` and `/caption` returned an empty text, `/batch` an empty caption."""
    values: dict[str, Any] = {"model": "blank", "quality": quality, "max_new_tokens": 4}
    for name in ("/chat", "/caption"):
        job = program.submit(handle_file(image_file), **values, api_name=name)
        assert not any(isinstance(text, str) and text.strip() for text in job)
        with pytest.raises(AppError) as raised:
            job.result()
        assert str(raised.value) == EMPTY_ANSWER
    result = program.predict([handle_file(image_file)], **values, api_name="/batch")
    assert (result["done"], result["errors"]) == (1, 1)
    assert [(record["caption"], record["error"]) for record in result["records"]] == [(None, EMPTY_ANSWER)]


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_a_caption_that_loops_is_marked_and_a_penalty_prevents_it(
    program: Client, image_file: Path, quality: str
) -> None:
    """The case caption-that-repeats over the API, where only `/chat` took decoding options."""
    values: dict[str, Any] = {"model": "loop", "quality": quality, "max_new_tokens": 12}
    penalty = {"repetition_penalty": 2.0}
    assert program.predict(handle_file(image_file), **values, api_name="/caption") == "at" * 12
    assert program.predict(handle_file(image_file), **values, **penalty, api_name="/caption") != "at" * 12
    for changes, repeats in (({}, True), (penalty, False)):
        result = program.predict([handle_file(image_file)], **values, **changes, api_name="/batch")
        assert [record["repeats"] for record in result["records"]] == [repeats]


def test_a_call_without_the_later_parameters_stays_valid(real: str, image_file: Path) -> None:
    """Plain HTTP sends a list: `/caption` had four values and `/batch` six."""
    with httpx.Client(base_url=real, timeout=20) as web:
        (path,) = web.post("/gradio_api/upload", files={"files": ("a.png", image_file.read_bytes())}).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for name, values in (
            ("caption", [file, "de", "tiny", "best"]),
            ("batch", [[file], "", "de", "tiny", "best", 50]),
        ):
            started = web.post(f"/gradio_api/call/{name}", json={"data": values}).json()["event_id"]
            last = server_events(web, f"call/{name}/{started}")[-1]
            assert "drei blaue Kreise" in str(last)
