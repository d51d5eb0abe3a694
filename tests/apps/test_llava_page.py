"""A conversation with a LLaVA beside the embedded model, on the page and over the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, expect

from blip_space import images
from blip_space.catalogue import read_folder
from blip_space.engine.local import LocalEngine
from blip_space.engine.request import Request
from blip_space.loading.loader import load_model
from blip_space.options import GenerationOptions
from tests.apps.test_model_switch import open_page
from tests.checkpoints import llava
from tests.test_end_to_end import App, wait_for_status

QUESTION, FOLLOW_UP = "How many circles are there?", "And what colour are they?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava.write(tmp_path_factory.mktemp("models") / "small-llava", seed=1)


@pytest.fixture(scope="module")
def app(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A server with the embedded model and a small LLaVA."""
    app = App(tmp_path_factory.mktemp("app"), "--models", f"tiny,{folder}")
    wait_for_status(app.health, "ready")
    yield app
    app.close()


@pytest.fixture(scope="module")
def expected(folder: Path, image_file: Path) -> list[str]:
    """The model's answers to both questions, without a server."""
    engine, image = LocalEngine(load_model(read_folder(folder))), images.decode(image_file)
    (*_, first) = engine.generate(Request(image, QUESTION, options=GenerationOptions(max_new_tokens=12)))
    later = Request(image, FOLLOW_UP, turns=((QUESTION, first),), options=GenerationOptions(max_new_tokens=12))
    (*_, second) = engine.generate(later)
    assert first != second
    return [first, second]


def test_a_conversation_over_the_api_gives_its_answers(app: App, image_file: Path, expected: list[str]) -> None:
    client = Client(app.url, verbose=False)
    values = {"model": "small-llava", "max_new_tokens": 12, "api_name": "/chat"}
    first = client.predict(handle_file(image_file), QUESTION, **values)
    history = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": first}]
    assert [first, client.predict(handle_file(image_file), FOLLOW_UP, history=history, **values)] == expected
    history[1]["content"] = "three"
    budget = client.predict(FOLLOW_UP, history=history, model="small-llava", api_name="/budget")
    assert budget["image_tokens"] == llava.POSITIONS["clip"]
    assert budget["prompt"] == f"USER: <image>\n{QUESTION} ASSISTANT: three USER: {FOLLOW_UP} ASSISTANT:"
    models = {model["name"]: model for model in client.predict(api_name="/models")}
    model = models["small-llava"]
    assert (model["architecture"], model["family"], model["languages"]) == ("llava", "llama", ["en"])


def test_the_page_selects_it_and_shows_two_answers(app: App, browser: Browser, image_file: Path) -> None:
    page = open_page(browser, app, image_file, "small-llava")
    replies = page.locator("#chat [data-testid=bot]")
    for number, question in enumerate((QUESTION, FOLLOW_UP), start=1):
        page.fill("#question textarea", question)
        page.press("#question textarea", "Enter")
        expect(replies).to_have_count(number)
        expect(page.locator("#ask")).to_be_visible()
        expect(replies.last).not_to_be_empty()
    assert replies.all_inner_texts()[0] != replies.all_inner_texts()[1]
    assert wait_for_status(app.health, "ready")["model"] == "small-llava"
