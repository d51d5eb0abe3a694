"""The whole: `python app.py` in a checkout, the embedded model behind it, and a program that calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from tests.apps.conftest import free_port
from tests.example_images import blue_circles

ROOT = Path(__file__).resolve().parent.parent
COUNT = {"en": "How many circles are there?", "de": "Wie viele Kreise sind da?", "ja": "円はいくつありますか？"}
THREE = {"en": "three", "de": "drei", "ja": "三"}


def wait_for_status(state: Any, wanted: str, seconds: float = 120) -> dict[str, Any]:
    """What `/healthz` says once its status is the wanted one."""
    deadline = time.monotonic() + seconds
    while (health := dict(state()))["status"] != wanted:
        assert time.monotonic() < deadline, health
        time.sleep(0.05)
    return health


class App:
    """`python app.py` as a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log.txt"
        environment = {
            **os.environ,
            "GRADIO_TEMP_DIR": str(folder),
            "BLIP_SPACE_PORT": str(port),
            "HF_HUB_OFFLINE": "1",
        }
        with self.log.open("w") as log:
            command = [sys.executable, str(ROOT / "app.py"), *arguments]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.first = self._first_health()

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/healthz", timeout=10).json()
        return found

    def close(self) -> int:
        """Ask it to end, as a host does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def _first_health(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.health()
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("app"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    wait_for_status(app.health, "ready")
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("pictures") / "circles.png"
    path.write_bytes(blue_circles())
    return handle_file(path)


def test_the_page_is_up_while_the_model_loads_and_then_it_is_ready(app: App) -> None:
    assert app.first["status"] == "loading"
    ready = wait_for_status(app.health, "ready")
    assert {"status", "model", "precision", "device", "waiting", "running"} <= set(ready)
    assert (ready["model"], ready["precision"], ready["device"]) == ("tiny", "fp32", "cpu")


@pytest.mark.parametrize("code", COUNT)
def test_three_blue_circles_are_counted_in_the_language_asked_for(client: Client, picture: Any, code: str) -> None:
    for question in (COUNT[code], COUNT["en"]):
        assert client.predict(picture, question, language=code, api_name="/chat") == THREE[code]


def test_a_follow_up_uses_the_turn_before_it(client: Client, picture: Any) -> None:
    turns = [{"role": "user", "content": COUNT["en"]}, {"role": "assistant", "content": "three"}]
    assert client.predict(picture, "What colour are they?", history=turns, api_name="/chat") == "blue"


def test_an_empty_prompt_is_a_caption_and_it_streams(client: Client, picture: Any) -> None:
    job = client.submit(picture, "", api_name="/chat")
    updates = [text for text in job if text]
    assert updates[-1] == "three blue circles"
    assert len(set(updates)) > 1
    assert client.predict(picture, api_name="/caption") == "three blue circles"


def test_a_batch_says_what_captions_say_while_somebody_chats(client: Client, picture: Any, tmp_path: Path) -> None:
    """On the embedded model: a zip of pictures, each with its own caption, and a question asked in between."""
    counts = {"one": 1, "two": 2, "three": 3, "four": 4}
    with zipfile.ZipFile(tmp_path / "circles.zip", "w") as made:
        for word, count in counts.items():
            made.writestr(f"{word}.png", blue_circles(count))
    batch = client.submit(handle_file(tmp_path / "circles.zip"), api_name="/batch")
    assert client.predict(picture, COUNT["en"], api_name="/chat") == "three"
    told = batch.result()
    assert (told["done"], told["total"], told["errors"], told["seconds_left"]) == (4, 4, 0, 0)
    captions = {record["file"]: record["caption"] for record in told["records"]}
    for word, count in counts.items():
        (tmp_path / "one.png").write_bytes(blue_circles(count))
        assert captions[f"{word}.png"] == client.predict(handle_file(tmp_path / "one.png"), api_name="/caption")
    assert captions["three.png"] == "three blue circles"
    assert {(record["model"], record["precision"]) for record in told["records"]} == {("tiny", "fp32")}
    assert all(record["tokens"] > 0 for record in told["records"])


def test_the_budget_is_of_the_prompt_that_is_sent(client: Client) -> None:
    budget = client.predict("What is it?", language="de", api_name="/budget")
    assert budget["prompt"] == "Question: What is it? Short answer in German:"
    assert budget["used_tokens"] == budget["image_tokens"] + budget["prompt_tokens"]
    assert (budget["context_tokens"], budget["kept_turns"], budget["dropped_turns"]) == (512, 0, 0)


def test_a_language_that_the_embedded_model_does_not_speak_is_a_sentence(client: Client, picture: Any) -> None:
    with pytest.raises(Exception, match=r"tiny does not support Esperanto.*mblip-mt0-xl"):
        client.predict(picture, "What?", language="eo", api_name="/chat")


def test_neither_words_nor_files_are_logged(app: App, client: Client, picture: Any) -> None:
    client.predict(picture, "Is a xylophone here?", api_name="/chat")
    log = app.log.read_text()
    assert "tiny is ready" in log
    assert "xylophone" not in log
    assert "circles.png" not in log


def test_a_folder_that_is_no_checkpoint_leaves_the_page_up_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    running = App(tmp_path, "--model", str(tmp_path / "empty"))
    try:
        failed = wait_for_status(running.health, "failed")
        assert "no config.json" in failed["error"]
        assert str(tmp_path) not in failed["error"]
        assert httpx.get(running.url, timeout=10).status_code == 200
    finally:
        assert running.close() == 0
