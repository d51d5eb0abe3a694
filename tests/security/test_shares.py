"""One caller has a share of the queue and of what runs at once, and only while it listens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from blip_space.apps.gradio_api import queue_shares, session_messages
from tests.apps.conftest import free_port
from tests.apps.fake_engine import FakeEngine
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

GREEDY, QUIET = "127.0.0.2", "127.0.0.3"
WAITING = 6
"""Of one caller, in these tests."""

RUNNING = 4


class Person:
    """Somebody at an address of their own, with an uploaded image."""

    def __init__(self, url: str, address: str, file: Path) -> None:
        self._web = httpx.Client(base_url=url, timeout=20, transport=httpx.HTTPTransport(local_address=address))
        files = {"files": (file.name, file.read_bytes())}
        path = self._web.post("/gradio_api/upload", files=files).json()[0]
        self._image = {"path": path, "meta": {"_type": "gradio.FileData"}}

    def call(self, prompt: str) -> httpx.Response:
        """Make a call of /chat, without listening."""
        return self._web.post("/gradio_api/call/v2/chat", json={"image": self._image, "prompt": prompt})

    def listen(self, event: str) -> str:
        """The last message of a call."""
        lines = self._web.get(f"/gradio_api/call/chat/{event}").text.splitlines()
        data = json.loads([line for line in lines if line.startswith("data: ")][-1][6:])
        return str(data[0] if isinstance(data, list) else data["error"])

    def ask(self, prompt: str) -> str:
        """The answer to a prompt."""
        return self.listen(self.call(prompt).json()["event_id"])

    def close(self) -> None:
        """Leave."""
        self._web.close()


@pytest.fixture(scope="module")
def running(_own_uploads: None, engine: FakeEngine) -> Iterator[Any]:
    """A server of this module's own."""
    from blip_space.apps import server  # Gradio is imported once its environment is prepared

    running = server.launch(engine, host="127.0.0.1", port=free_port())
    yield running
    running.close()


@pytest.fixture
def people(
    running: Any, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Person, Person]]:
    """A greedy one and a quiet one, before an engine that holds all answers but the first few."""
    monkeypatch.setattr(queue_shares, "MAX_WAITING_SHARE", WAITING / 256)
    monkeypatch.setattr(queue_shares, "MAX_RUNNING_SHARE", RUNNING / 40)
    monkeypatch.setattr(queue_shares, "SWEEP_SECONDS", 0.02)
    engine.reset()
    (tmp_path / "image.png").write_bytes(blue_circles())
    greedy, quiet = (Person(running.url, address, tmp_path / "image.png") for address in (GREEDY, QUIET))
    yield greedy, quiet
    engine.release()
    queue = running.demo._queue
    wait_until(lambda: not len(queue) and not queue.get_active_worker_count())
    greedy.close()
    quiet.close()


def fill(greedy: Person, engine: FakeEngine) -> list[str]:
    """As many calls as run and wait at once; their numbers."""
    engine.hold()
    events = [greedy.call("one two").json()["event_id"] for _ in range(RUNNING)]
    wait_until(lambda: len(engine.requests) == RUNNING)
    return events + [greedy.call("one two").json()["event_id"] for _ in range(WAITING)]


def test_one_caller_cannot_fill_the_queue(people: tuple[Person, Person], engine: FakeEngine) -> None:
    greedy, quiet = people
    fill(greedy, engine)
    refused = greedy.call("one more")
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert refused.json()["detail"].startswith("Many calls from your address are waiting already.")
    assert quiet.call("mine").status_code == 200


def test_greedy_callers_at_many_addresses_leave_a_place_for_another(
    running: Any, people: tuple[Person, Person], engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They asked again at once whenever one of them was answered, so a caller that waited before it did never came."""
    greedy, quiet = people
    fill(greedy, engine)
    monkeypatch.setattr(running.demo._queue, "max_size", 3 * WAITING)
    monkeypatch.setattr(queue_shares, "MAX_WAITING_SHARE", 1 / 2)
    others = [Person(running.url, f"127.0.0.{number}", tmp_path / "image.png") for number in (4, 5, 6)]
    for _ in range(2 * WAITING):
        for person in others:
            person.call("one more")
    assert quiet.call("mine").status_code == 200
    for person in others:
        person.close()


def test_a_caller_that_listens_late_gets_no_old_estimates(
    running: Any, people: tuple[Person, Person], engine: FakeEngine
) -> None:
    greedy, quiet = people
    fill(greedy, engine)
    for _ in range(WAITING):
        quiet.call("mine")
    unread = [list(messages._queue) for messages in running.demo._queue.pending_messages_per_session.values()]
    estimates = [sum(message.msg == "estimation" for message in messages) for messages in unread]
    assert sum(estimates) >= 2 * WAITING
    assert set(estimates) <= {0, 1}


def test_what_calls_send_is_not_kept_for_their_session(running: Any, people: tuple[Person, Person]) -> None:
    _, quiet = people
    states = running.demo.app.state_holder
    assert quiet.ask("said once") == "said once"
    kept = [[list(state.components), state.state_data] for state in states.session_data.values()]
    assert kept
    assert "said once" not in repr(kept)


def test_a_quiet_caller_overtakes_a_greedy_one(people: tuple[Person, Person], engine: FakeEngine) -> None:
    greedy, quiet = people
    fill(greedy, engine)
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(quiet.ask("mine alone")))
    thread.start()
    wait_until(lambda: len(engine.requests) == RUNNING + 1)
    assert [request.prompt for request in engine.requests] == ["one two"] * RUNNING + ["mine alone"]
    assert [request.caller.address for request in engine.requests] == [GREEDY] * RUNNING + [QUIET]
    engine.release()
    thread.join(60)
    assert answers == ["mine alone"]


def test_calls_without_a_listener_end(
    running: Any, people: tuple[Person, Person], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, quiet = people
    fill(greedy, engine)
    queue, answers = running.demo._queue, list[str]()
    thread = threading.Thread(target=lambda: answers.append(quiet.ask("mine alone")))
    thread.start()
    wait_until(lambda: len(engine.requests) == RUNNING + 1)
    wait_until(lambda: any(kept._listeners for kept in list(queue.pending_messages_per_session.values())))
    monkeypatch.setattr(queue_shares, "LISTEN_SECONDS", 0.5)
    wait_until(lambda: not len(queue) and queue.get_active_worker_count() == 1)
    assert all(response.done for response in engine.responses[:RUNNING])
    assert not engine.responses[RUNNING].done, "somebody listens to this one"
    assert greedy.call("again").status_code == 200
    engine.release()
    thread.join(60)
    assert answers == ["mine alone"]


def test_a_call_may_be_listened_to_after_its_end(people: tuple[Person, Person], engine: FakeEngine) -> None:
    greedy, _ = people
    event = greedy.call("one two").json()["event_id"]
    wait_until(lambda: bool(engine.responses) and engine.responses[0].done)
    assert greedy.listen(event) == "one two"


def test_messages_of_ended_calls_are_kept_for_a_while(
    people: tuple[Person, Person], running: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, quiet = people
    for _ in range(3):
        greedy.call("one two")
    wait_until(lambda: len(engine.responses) == 3 and all(response.done for response in engine.responses))
    kept = running.demo._queue.pending_messages_per_session
    assert len(kept) >= 3
    monkeypatch.setattr(queue_shares, "KEEP_SECONDS", 0.0)
    engine.hold()
    event = quiet.call("mine").json()["event_id"]
    wait_until(lambda: len(kept) == 1)
    engine.release()
    assert quiet.listen(event) == "mine"


def test_one_caller_keeps_few_sessions(
    people: tuple[Person, Person], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio forgets the oldest session of all beyond 2,000, whosever it is."""
    monkeypatch.setattr(queue_shares, "MAX_KEPT_SESSIONS", 2)
    greedy, quiet = people
    mine, *events = [person.call("one two").json()["event_id"] for person in (quiet, greedy, greedy, greedy)]
    wait_until(lambda: len(engine.responses) == 4 and all(response.done for response in engine.responses))
    greedy.call("one two")
    answers: list[Any] = [quiet.listen(mine), greedy.listen(events[-1])]
    assert answers == ["one two", "one two"]
    assert greedy.listen(events[0]).startswith("There is no such session any more.")


def test_the_calls_of_others_never_end_a_running_one(
    people: tuple[Person, Person], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_messages, "MAX_SESSIONS", 3)
    greedy, quiet = people
    engine.hold()
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(quiet.ask("mine alone")))
    thread.start()
    wait_until(lambda: len(engine.requests) == 1)
    statuses = [greedy.call("one two").status_code for _ in range(RUNNING + WAITING)]
    engine.release()
    thread.join(20)
    assert answers == ["mine alone"]
    assert set(statuses) == {200}


def test_a_refused_call_leaves_no_session(
    people: tuple[Person, Person], running: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, quiet = people
    queue = running.demo._queue
    fill(greedy, engine)
    sessions = set(queue.pending_messages_per_session)
    monkeypatch.setattr(queue, "max_size", len(queue))
    monkeypatch.setattr(queue_shares, "MAX_WAITING_SHARE", 1)
    refused = quiet.call("mine")
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert set(queue.pending_messages_per_session) == sessions
