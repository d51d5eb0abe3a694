"""A server that offers a model of its own and one of another server: its API, and what its page says of that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect

from blip_space import catalogue
from blip_space.catalogue.remote import with_adapter
from blip_space.errors import ModelError
from blip_space.serving.joined import JoinedEngine
from blip_space.serving.remote.engine import RemoteEngine
from blip_space.settings import Settings
from tests.apps.browser import ask, replies, upload
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.serving.fakes import wait_until
from tests.serving.remote.openai_server import OpenAIServer, running_server


@pytest.fixture(scope="module")
def remote() -> Iterator[OpenAIServer]:
    """The other server."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def joined_url(_own_uploads: None, remote: OpenAIServer) -> Iterator[str]:
    """The address of a server whose default is the other server's model `echo`."""
    from blip_space.apps import server

    specs = [catalogue.find_model(remote.name(name), folders=True) for name in ("echo", "status-500")]
    engine = JoinedEngine(
        [FakeEngine(PARROT), *map(RemoteEngine, specs)], [*(spec.name for spec in specs), PARROT.name]
    )
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    wait_until(lambda: engine.status().status == "ready")
    yield running.url.rstrip("/")
    running.close()


@pytest.fixture(scope="module")
def api(joined_url: str) -> Client:
    """A client of its API."""
    return Client(joined_url, verbose=False)


def test_chat_caption_and_budget_are_those_of_the_chosen_model(api: Client, image_file: Path) -> None:
    image = handle_file(image_file)
    assert api.predict(image, "Why?", "de", api_name="/chat") == "Why? Answer in German. of echo"
    assert api.predict(image, "Why?", model="parrot", api_name="/chat") == "Why?"
    assert "Describe this image" in api.predict(image, api_name="/caption")
    budget = api.predict("Why?", api_name="/budget")
    assert (budget["context_tokens"], "reports a window" in budget["note"]) == (512, True)
    assert api.predict("Why?", model="parrot", api_name="/budget")["note"] == ""


def test_a_batch_is_answered_by_the_other_server(api: Client, zip_file: Path) -> None:
    update = api.predict([handle_file(zip_file)], "Why?", api_name="/batch")
    assert (update["done"], update["errors"]) == (20, 0)
    record = update["records"][0]
    assert (record["caption"], record["model"]) == ("Why? Answer in English. of echo", "echo")
    assert (record["precision"], record["tokens"]) == ("remote", 7)


def test_models_names_the_host_that_answers(api: Client, remote: OpenAIServer) -> None:
    rows = {row["name"]: row for row in api.predict(api_name="/models")}
    assert (rows["echo"]["remote"], rows["parrot"]["remote"]) == (remote.host, "")
    assert (rows["echo"]["default"], rows["echo"]["fits"], rows["echo"]["precisions"]) == (True, None, [])


def test_a_failure_of_the_other_server_is_a_sentence_with_a_code(api: Client, image_file: Path) -> None:
    with pytest.raises(AppError, match="failed with status 500") as caught:
        api.predict(handle_file(image_file), "Why?", model="status-500", api_name="/chat")
    assert caught.value.title == "remote_failed"


def test_healthz_names_the_host_instead_of_a_device(joined_url: str, api: Client, image_file: Path) -> None:
    api.predict(handle_file(image_file), "Why?", api_name="/chat")
    state = httpx.get(f"{joined_url}/healthz").json()
    assert (state["status"], state["model"], state["precision"]) == ("ready", "echo", "remote")


def test_the_page_says_that_images_leave_and_where_to(
    browser: Browser, joined_url: str, remote: OpenAIServer, image_file: Path
) -> None:
    page = browser.new_page()
    page.goto(joined_url)
    privacy = page.locator("#privacy")
    privacy.get_by_text(f"Images are sent to {remote.host} when echo / status-500 answers").wait_for()
    assert "nothing leaves" not in privacy.inner_text()
    expect(page.locator("#budget .budget")).to_have_attribute("title", re.compile("reports a window of 512 tokens"))
    upload(page, image_file)
    ask(page, "Why?")
    expect(replies(page).last).to_have_text("Why? Answer in English. of echo")
    expect(page.locator("#status-details")).to_contain_text(f"remote on {remote.host}")
    page.close()


def test_a_server_takes_remote_and_local_models_by_name(remote: OpenAIServer) -> None:
    from threading import Event

    from blip_space.apps import server

    names = (remote.name("echo"), "tiny")
    specs = [catalogue.find_operator_model(name) for name in names]
    engine = server._create_engine(specs, Settings(model=names[0], models=names), Event())
    assert (list(engine.specs), engine.default.name) == (["echo", "tiny"], "echo")
    alone = server._create_engine(specs[:1], Settings(model=names[0], models=names[:1]), Event())
    assert isinstance(alone, RemoteEngine)
    with pytest.raises(ModelError, match="takes no --adapter"):
        with_adapter(specs[0], "lora")
