"""Laws of a batch over the API: it streams progress, can be cancelled, and keeps finished captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from blip_space.apps.gradio_api import batches
from blip_space.jobs.upload_archive import NO_FILES
from tests.apps.fake_engine import FakeEngine
from tests.apps.test_api import wait_until
from tests.apps.test_bad_input import refusal
from tests.example_images import blue_circles, write_zip

FIELDS = [
    *("file", "digest", "model", "precision", "language", "prompt", "caption", "tokens", "seconds", "error"),
    *("options", "fingerprint", "repeats", "edited"),
]
CAPTION = "an image of {} by 200"


def captions(update: dict[str, Any]) -> list[str]:
    return [record["caption"] for record in update["records"]]


def test_a_list_of_files_is_captioned_in_its_order(client: Client, engine: FakeEngine, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number} ä.png")
        files[-1].write_bytes(blue_circles(size=(100 + number, 200)))
    update = client.predict([handle_file(file) for file in files], language="de", api_name="/batch")
    assert captions(update) == [CAPTION.format(100 + number) for number in range(3)]
    assert [record["file"] for record in update["records"]] == [file.name for file in files]
    assert list(update["records"][0]) == FIELDS
    assert all(request.background and request.language == "de" for request in engine.requests)
    assert (engine.requests[0].options.quality, engine.requests[0].options.max_new_tokens) == ("best", 50)


def test_prompt_and_options_reach_the_engine(client: Client, engine: FakeEngine, zip_file: Path) -> None:
    update = client.predict(
        handle_file(zip_file), "how many?", model="polyglot", quality="stream", max_new_tokens=9, api_name="/batch"
    )
    assert captions(update) == ["how many?"] * 20
    assert {(request.model, request.options.max_new_tokens) for request in engine.requests} == {("polyglot", 9)}


def test_a_zip_streams_its_progress_each_record_once_and_all_at_the_end(
    client: Client, engine: FakeEngine, zip_file: Path
) -> None:
    engine.hold(after=3)
    job = client.submit(handle_file(zip_file), api_name="/batch")
    wait_until(lambda: sum(len(update["records"]) for update in job.outputs()) == 3)
    engine.release()
    *updates, last = list(job)
    streamed = [record for update in updates for record in update["records"]]
    assert streamed == last["records"][: len(streamed)]
    assert captions(last) == [CAPTION.format(400 + 10 * number) for number in range(20)]
    assert (last["done"], last["total"], last["errors"], last["seconds_left"]) == (20, 20, 0, 0)
    assert last["pictures_per_second"] > 0
    assert updates[0]["total"] == 20


def test_a_file_that_is_not_an_image_is_a_record_with_an_error(client: Client, tmp_path: Path) -> None:
    others = {"notes.txt": b"hello", "../out.png": blue_circles(), "in.zip": b"PK"}
    update = client.predict(handle_file(write_zip(tmp_path / "x.zip", 1, **others)), api_name="/batch")
    errors = {record["file"]: record["error"] for record in update["records"]}
    assert errors["0.png"] is None
    assert "that can be read" in errors["notes.txt"]
    assert "leads out of the zip" in errors["../out.png"]
    assert "not opened" in errors["in.zip"]
    assert (update["done"], update["errors"]) == (4, 3)


def test_an_invalid_batch_is_refused(client: Client, zip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("no zip")
    for files, values, sentence in (
        ([], {}, NO_FILES),
        ([handle_file(tmp_path / "no.zip")], {}, "not a zip"),
        ([handle_file(zip_file)], {"language": "sw"}, "parrot does not support Swahili"),
        ([handle_file(zip_file)], {"model": "gpt"}, "Choose among parrot, polyglot"),
        ([handle_file(zip_file)], {"quality": "superb"}, "'stream' or 'best'"),
        ([handle_file(zip_file)], {"max_new_tokens": 0}, "from 1 to 512"),
        ([handle_file(zip_file)], {"prompt": "word " * 100}, "The question is too long"),
    ):
        assert sentence in refusal(client, files, api_name="/batch", **values)


def test_a_session_has_one_batch_at_a_time_an_address_three_and_the_server_four(
    url: str, engine: FakeEngine, zip_file: Path
) -> None:
    engine.hold()
    jobs, clients = [], [Client(url, verbose=False) for _ in range(batches.MAX_BATCHES)]
    for client in clients[:-1]:
        jobs.append(client.submit(handle_file(zip_file), api_name="/batch"))
        wait_until(lambda: jobs[-1].outputs())
    assert batches.ONE_AT_A_TIME in refusal(clients[0], handle_file(zip_file), api_name="/batch")
    assert batches.TOO_MANY_OF_ADDRESS in refusal(clients[-1], handle_file(zip_file), api_name="/batch")
    with batch_from("127.0.0.3", url, zip_file) as first, batch_from("127.0.0.4", url, zip_file) as second:
        assert next(first) == "event: generating"
        assert next(second) == "event: error"
        assert batches.TOO_MANY_BATCHES in next(second)
        engine.release()
        wait_until(lambda: next(first) == "event: complete")
    for job in jobs:
        assert job.result()["done"] == 20
    assert clients[-1].predict(handle_file(zip_file), api_name="/batch")["done"] == 20


@contextmanager
def batch_from(address: str, url: str, file: Path) -> Iterator[Iterator[str]]:
    """The lines of a batch's events, for a caller at another address of this machine."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=f"{url}/gradio_api", timeout=20, transport=transport) as web:
        (path,) = web.post("/upload", files={"files": (file.name, file.read_bytes())}).json()
        files = [{"path": path, "orig_name": file.name, "meta": {"_type": "gradio.FileData"}}]
        event = web.post("/call/v2/batch", json={"files": files}).json()["event_id"]
        with web.stream("GET", f"/call/batch/{event}") as response:
            yield (line for line in response.iter_lines() if line)


def test_cancelling_a_job_cancels_its_requests_and_frees_the_session(
    client: Client, engine: FakeEngine, zip_file: Path
) -> None:
    engine.hold()
    job = client.submit(handle_file(zip_file), api_name="/batch")
    wait_until(lambda: job.outputs())
    job.cancel()
    wait_until(lambda: all(answer.done for answer in engine.responses))
    engine.release()

    def is_free() -> bool:
        with suppress(AppError):
            return bool(client.predict(handle_file(zip_file), api_name="/batch")["done"] == 20)
        return False

    wait_until(is_free)
