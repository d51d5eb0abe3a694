"""End to end: `python app.py` in a checkout, with the embedded model, and a client that calls it."""

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


def wait_for_status(health: Any, status: str, seconds: float = 240) -> dict[str, Any]:
    """The response of `/healthz` once it has that status."""
    deadline = time.monotonic() + seconds
    while (response := dict(health()))["status"] != status:
        assert time.monotonic() < deadline, response
        time.sleep(0.05)
    return response


class App:
    """`python app.py` in its own process."""

    def __init__(self, folder: Path, *arguments: str, separate: bool = False) -> None:
        """`separate` is whether its engine has a process of its own."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log.txt"
        environment = {
            **os.environ,
            "GRADIO_TEMP_DIR": str(folder),
            "BLIP_SPACE_PORT": str(port),
            "HF_HUB_OFFLINE": "1",
            "BLIP_SPACE_PROCESS": str(int(separate)),
        }
        with self.log.open("w") as log:
            command = [sys.executable, str(ROOT / "app.py"), *arguments]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            self.first = self._first_health()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def health(self) -> dict[str, Any]:
        response: dict[str, Any] = httpx.get(f"{self.url}/healthz", timeout=60).json()
        return response

    def close(self) -> int:
        """Send SIGTERM, as a host does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def _first_health(self) -> dict[str, Any]:
        deadline = time.monotonic() + 240
        while True:
            try:
                return self.health()
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture(scope="module", params=[False, True], ids=["thread", "process"])
def app(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("app"), separate=request.param)
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    wait_for_status(app.health, "ready")
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("images") / "circles.png"
    path.write_bytes(blue_circles())
    return handle_file(path)


def test_the_page_is_up_while_the_model_loads(app: App) -> None:
    assert app.first["status"] == "loading"
    ready = wait_for_status(app.health, "ready")
    assert {"status", "model", "precision", "device", "waiting", "running"} <= set(ready)
    assert (ready["model"], ready["precision"], ready["device"]) == ("tiny", "fp32", "cpu")


@pytest.mark.parametrize("code", COUNT)
def test_three_blue_circles_are_counted_in_the_language_asked_for(client: Client, image_file: Any, code: str) -> None:
    for question in (COUNT[code], COUNT["en"]):
        assert client.predict(image_file, question, language=code, api_name="/chat") == THREE[code]


def test_a_follow_up_uses_the_turn_before_it(client: Client, image_file: Any) -> None:
    turns = [{"role": "user", "content": COUNT["en"]}, {"role": "assistant", "content": "three"}]
    assert client.predict(image_file, "What colour are they?", history=turns, api_name="/chat") == "blue"


def test_an_empty_prompt_is_a_caption_and_it_streams(client: Client, image_file: Any) -> None:
    job = client.submit(image_file, "", api_name="/chat")
    updates = [text for text in job if text]
    assert updates[-1] == "three blue circles"
    assert len(set(updates)) > 1
    assert client.predict(image_file, api_name="/caption") == "three blue circles"


def test_a_batch_beside_a_chat_gives_the_captions_of_single_calls(
    client: Client, image_file: Any, tmp_path: Path
) -> None:
    """A zip of images, each with its own caption, and a question asked in between."""
    counts = {"one": 1, "two": 2, "three": 3, "four": 4}
    with zipfile.ZipFile(tmp_path / "circles.zip", "w") as archive:
        for word, count in counts.items():
            archive.writestr(f"{word}.png", blue_circles(count))
    batch = client.submit(handle_file(tmp_path / "circles.zip"), api_name="/batch")
    assert client.predict(image_file, COUNT["en"], api_name="/chat") == "three"
    result = batch.result()
    assert (result["done"], result["total"], result["errors"], result["seconds_left"]) == (4, 4, 0, 0)
    captions = {record["file"]: record["caption"] for record in result["records"]}
    for word, count in counts.items():
        (tmp_path / "one.png").write_bytes(blue_circles(count))
        assert captions[f"{word}.png"] == client.predict(handle_file(tmp_path / "one.png"), api_name="/caption")
    assert captions["three.png"] == "three blue circles"
    assert {(record["model"], record["precision"]) for record in result["records"]} == {("tiny", "fp32")}
    assert all(record["tokens"] > 0 for record in result["records"])


def test_the_budget_is_of_the_prompt_that_is_sent(client: Client) -> None:
    budget = client.predict("What is it?", language="de", api_name="/budget")
    assert budget["prompt"] == "Question: What is it? Short answer in German:"
    assert budget["used_tokens"] == budget["image_tokens"] + budget["prompt_tokens"]
    assert (budget["context_tokens"], budget["kept_turns"], budget["dropped_turns"]) == (512, 0, 0)


def test_a_language_that_the_embedded_model_does_not_support_is_refused(client: Client, image_file: Any) -> None:
    with pytest.raises(Exception, match=r"tiny does not support Esperanto.*mblip-mt0-xl"):
        client.predict(image_file, "What?", language="eo", api_name="/chat")


def test_neither_text_nor_file_names_are_logged(app: App, client: Client, image_file: Any) -> None:
    client.predict(image_file, "Is a xylophone here?", api_name="/chat")
    log = app.log.read_text()
    assert "tiny is ready" in log
    assert "xylophone" not in log
    assert "circles.png" not in log


def test_a_folder_without_a_checkpoint_is_reported_and_leaves_the_page_up(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    running = App(tmp_path, "--model", str(tmp_path / "empty"))
    try:
        failed = wait_for_status(running.health, "failed")
        assert "no config.json" in failed["error"]
        assert str(tmp_path) not in failed["error"]
        assert httpx.get(running.url, timeout=10).status_code == 200
    finally:
        assert running.close() == 0
