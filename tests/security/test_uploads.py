"""Uploads are limited while they arrive, and nothing stays on the disk of one that is refused or cut off."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from blip_space import settings
from blip_space.apps import uploads
from blip_space.apps.http import upload_limits
from blip_space.apps.http.open_files import OpenFiles
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.example_images import blue_circles

PATH = "/gradio_api/upload"
LIMITS = uploads.Limits(request_bytes=300_000, request_files=5, caller_bytes=600_000, caller_files=9, free_bytes=0)
HEAD = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def url(_own_uploads: None) -> Iterator[str]:
    """A server with low limits."""
    from blip_space.apps import server  # Gradio is imported once its environment is prepared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "LIMITS", LIMITS)
        running = server.launch(FakeEngine(PARROT), host="127.0.0.1", port=free_port())
    yield running.url.rstrip("/")
    running.close()


def client_at(url: str, number: int) -> httpx.Client:
    """A caller at an address of its own."""
    return httpx.Client(base_url=url, timeout=20, transport=httpx.HTTPTransport(local_address=f"127.0.0.{number}"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of uploads, in which a test leaves no temporary file."""
    yield settings.upload_folder()
    assert not temporary_files()


def temporary_files() -> list[Path]:
    """What Gradio has not stored under its name yet."""
    return [path for path in settings.upload_folder().iterdir() if path.is_file()]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for at most 20 s."""
    for _ in range(2_000):
        if condition():
            return
        Event().wait(0.01)
    pytest.fail("it did not come to that")


def images_of(count: int, size: int = 10) -> list[Any]:
    """Different files for one upload."""
    return [("files", (f"{number}.png", str(number).encode() * size)) for number in range(count)]


def stored_of(answer: httpx.Response) -> list[Path]:
    """The files of a successful upload."""
    assert answer.status_code == 200, answer.text
    return [Path(path) for path in answer.json()]


@contextmanager
def half_upload(url: str, number: int, body: bytes) -> Iterator[socket.socket]:
    """A connection that announces a long upload and sends only its beginning."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 200000\r\n"
    head += "Content-Type: multipart/form-data; boundary=B\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20, source_address=(f"127.0.0.{number}", 0)) as connection:
        connection.sendall(head.encode() + HEAD + body)
        yield connection


def test_what_is_within_the_limits_is_stored(url: str, folder: Path) -> None:
    with client_at(url, 2) as web:
        paths = stored_of(web.post(PATH, files=images_of(5, 50_000)))
    assert [path.stat().st_size for path in paths] == [50_000] * 5
    assert all(path.is_relative_to(folder) for path in paths)


@pytest.mark.parametrize("files", [images_of(4, 80_000), images_of(6)], ids=["bytes", "files"])
@pytest.mark.parametrize("is_announced", [True, False])
def test_one_upload_is_limited(url: str, folder: Path, files: list[Any], is_announced: bool) -> None:
    stored = set(folder.iterdir())
    request = httpx.Request("POST", f"{url}{PATH}", files=files)
    body = request.read()
    content: Any = body if is_announced else (body[start : start + 9_000] for start in range(0, len(body), 9_000))
    with client_at(url, 3) as web:
        answer = web.post(PATH, content=content, headers={"Content-Type": request.headers["content-type"]})
    assert (answer.status_code, answer.headers["x-error-code"]) == (413, "too_large")
    assert answer.text.startswith("One upload has at most 0.3 MB and 5 files. Send them in parts")
    assert set(folder.iterdir()) == stored


def test_the_uploads_of_one_caller_are_limited_and_not_those_of_others(url: str, folder: Path) -> None:
    with client_at(url, 4) as greedy, client_at(url, 5) as quiet:
        for size in (55_000, 54_000):
            stored_of(greedy.post(PATH, files=images_of(4, size)))
        stored = set(folder.iterdir())
        answer = greedy.post(PATH, files=images_of(4, 53_000))
        assert (answer.status_code, answer.headers["x-error-code"]) == (429, "busy")
        assert answer.text.startswith("Your uploads of the last 10 minutes take 0.6 MB or 9 files, the most for one")
        assert set(folder.iterdir()) == stored
        stored_of(quiet.post(PATH, files=images_of(4, 52_000)))


@pytest.mark.usefixtures("folder")
def test_a_callers_older_uploads_make_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_at(url, 6) as web:
        old = stored_of(web.post(PATH, files=images_of(4, 65_000)))
        monkeypatch.setattr(uploads, "MIN_AGE_SECONDS", -1)
        for size in (64_000, 63_000):
            stored_of(web.post(PATH, files=images_of(4, size)))
    assert not all(path.exists() for path in old)


@pytest.mark.usefixtures("folder")
def test_an_upload_that_is_cut_off_leaves_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with half_upload(url, 7, b"x" * 50_000):
        wait_until(lambda: bool(temporary_files()))
    wait_until(lambda: not temporary_files())
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.usefixtures("folder")
def test_a_slow_upload_is_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_limits, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(upload_limits, "DISCARD_SECONDS", 0.1)
    with half_upload(url, 8, b"x") as connection:
        answer = connection.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"timed_out" in answer


def test_an_upload_has_only_files_and_an_end(url: str, folder: Path) -> None:
    stored = set(folder.iterdir())
    with client_at(url, 9) as web:
        for answer in (
            web.post(PATH, files=images_of(1), data={"text": "x" * 1_000}),
            web.post(PATH, files=[("other", ("a.png", b"x"))]),
            web.post(PATH, content=HEAD + b"x", headers={"Content-Type": "multipart/form-data; boundary=B"}),
        ):
            assert (answer.status_code, answer.headers["x-error-code"]) == (400, "invalid_value")
            assert answer.text.startswith("The upload has something else than files")
    assert set(folder.iterdir()) == stored


@pytest.mark.usefixtures("folder")
def test_an_upload_is_ended_when_the_disk_fills(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room when it begins."""
    monkeypatch.setattr(upload_limits, "DISCARD_SECONDS", 0.1)
    with half_upload(url, 10, b"x" * 1_000) as connection:
        wait_until(lambda: bool(temporary_files()))
        monkeypatch.setattr(uploads.UploadStorage, "_free_bytes", lambda _: -1)
        connection.sendall(b"x" * 1_000)
        answer = connection.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 507 ")
        assert b"disk_full" in answer


@pytest.mark.usefixtures("folder")
def test_uploads_wait_for_their_turn(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_limits, "MAX_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(upload_limits, "MAX_CALLER_AT_ONCE", 2)
    with client_at(url, 11) as greedy, client_at(url, 12) as quiet:
        with half_upload(url, 11, b"x"), half_upload(url, 11, b"x"):
            wait_until(lambda: len(temporary_files()) == 2)
            answer = greedy.post(PATH, files=images_of(1))
            assert (answer.status_code, answer.headers["x-error-code"]) == (503, "busy")
            stored_of(quiet.post(PATH, files=images_of(1)))
        wait_until(lambda: not temporary_files())
        stored_of(greedy.post(PATH, files=images_of(1)))


def test_the_open_files_of_uploads_are_limited() -> None:
    files = OpenFiles(100, at_least=10)
    assert files.add("a", 25)
    assert not files.add("a", 1)
    assert files.add("a", -1)
    assert files.add("b", 25)
    assert not files.add("c", 1)
    files.add("b", -25)
    assert files.add("c", 1)
    assert OpenFiles(10, at_least=500).add("a", 500)


def test_a_folder_that_was_deleted_is_created_again(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(blue_circles())
    client = Client(url, verbose=False)
    shutil.rmtree(settings.upload_folder())
    assert client.predict(handle_file(tmp_path / "a.png"), "seen", api_name="/chat") == "seen"


@pytest.mark.parametrize("number", [1, 2])
def test_a_folder_that_is_deleted_while_files_arrive_gets_a_sentence(url: str, folder: Path, number: int) -> None:
    """Gradio answers as if they were stored, or with an error of its own."""
    with half_upload(url, 6, b"x" * 100) as connection:
        wait_until(lambda: bool(temporary_files()))
        shutil.rmtree(folder)
        more, end = (number - 1) * (b"\r\n" + HEAD + b"y" * 50), b"\r\n--B--\r\n"
        left = 200_000 - len(HEAD) - 100
        connection.sendall(more + b"z" * (left - len(more) - len(end)) + end)
        connection.settimeout(20)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"x-error-code: not_uploaded" in answer.lower()
    assert b"Send them again." in answer
    assert len(client_at(url, 6).post(PATH, files=images_of(2)).json()) == 2


@pytest.mark.usefixtures("url")
def test_a_batch_writes_its_results_to_a_folder_that_was_deleted() -> None:
    from blip_space.apps.page import batch_tab
    from blip_space.jobs.records import CaptionTask
    from blip_space.options import GenerationOptions

    shutil.rmtree(settings.upload_folder())
    record = CaptionTask("parrot", "fp32", "en", "", GenerationOptions()).record("a.png", "digest", caption="a")
    assert len(batch_tab._downloads([record])) == 4
    assert len(list(settings.upload_folder().rglob("captions.*"))) == 4
