"""Answers on ZeroGPU: each in a forked process, with a thread in the server that has its user's request."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blip_space.engine.request import EngineConfig
from blip_space.errors import BusyError, UserError
from blip_space.options import GenerationOptions
from blip_space.serving import zero_gpu
from blip_space.serving.zero_gpu import ZeroGpuEngine, seconds_on_gpu
from tests.engine.fake_model import FakeModel, spec
from tests.serving.example_requests import ANSWER, BEST, ask
from tests.serving.fake_spaces import FORK, FakeSpaces
from tests.serving.fakes import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs fork")

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("gradio.request", default="")
FAKE = spec()
Build = Callable[..., ZeroGpuEngine]


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch) -> FakeSpaces:
    fake = FakeSpaces()
    monkeypatch.setitem(sys.modules, "spaces", fake)
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # so that the engine leaves the environment alone
    monkeypatch.setattr(zero_gpu, "_models", {})
    monkeypatch.setattr(zero_gpu, "_cores", {})
    return fake


@pytest.fixture
def build(spaces: FakeSpaces) -> Iterator[Build]:  # noqa: ARG001
    engines = []

    def _build(**config: Any) -> ZeroGpuEngine:
        model = FakeModel(FAKE)
        engine = ZeroGpuEngine(
            [FAKE],
            config=EngineConfig(**config),
            load=lambda _spec, _precision: model,
            load_preparation=lambda _spec: model,
        )
        engine.start()
        engines.append(engine)
        return engine

    yield _build
    for engine in engines:
        engine.stop()


def test_an_answer_is_generated_in_a_forked_process(build: Build, spaces: FakeSpaces) -> None:
    assert list(build().submit(ask()))[-1] == ANSWER
    assert len(spaces.processes) == 1
    assert spaces.outputs > 1  # it streams
    assert not zero_gpu._cores  # this process has none


def test_beams_are_searched_there_too(build: Build) -> None:
    assert list(build().submit(ask(options=BEST)))[-1] == ANSWER


def test_several_users_have_a_process_each(build: Build, spaces: FakeSpaces) -> None:
    engine = build()
    responses = [engine.submit(ask(f"What is {number}?")) for number in range(3)]
    answers = [list(response)[-1] for response in responses]
    assert all(f"What is {number}?" in answer for number, answer in enumerate(answers))
    assert len(spaces.processes) == 3


def test_a_call_has_the_users_request(build: Build, spaces: FakeSpaces) -> None:
    seen: list[str] = []
    spaces.before_call = lambda: seen.append(REQUEST.get())
    REQUEST.set("of this user")
    list(build().submit(ask()))
    assert seen == ["of this user"]


def test_a_reader_who_leaves_ends_the_process(build: Build, spaces: FakeSpaces) -> None:
    engine = build()
    gate = zero_gpu._models[FAKE.name].gate = FORK.Semaphore(2)  # lets one token pass for each release
    response = engine.submit(ask("What " * 64))
    next(response.updates())  # closing the iterator cancels the answer

    def has_ended() -> bool:
        gate.release()
        return engine.status().running == 0

    wait_until(has_ended)
    assert spaces.processes[0].exitcode == 0
    assert spaces.outputs < 40


def test_an_error_there_is_one_sentence(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    engine = build()
    zero_gpu._models[FAKE.name] = object()
    with pytest.raises(UserError, match="internal error") as caught:
        list(engine.submit(ask()))
    assert caught.value.code == "internal_error"
    assert "a call on ZeroGPU failed" in caplog.text


def test_the_sentence_of_spaces_about_a_quota_is_shown(build: Build, spaces: FakeSpaces) -> None:
    error = type("Error", (Exception,), {"message": "You have exceeded your quota.", "__module__": "gradio.exceptions"})

    def refuse() -> None:
        raise error()

    spaces.before_call = refuse
    with pytest.raises(BusyError, match=r"^You have exceeded your quota\.$"):
        list(build().submit(ask()))


def test_a_batch_is_refused(build: Build) -> None:
    with pytest.raises(UserError, match="no batches"):
        build().submit(ask(background=True))


def test_a_full_queue_is_busy_and_stopping_ends_every_answer(build: Build, spaces: FakeSpaces) -> None:
    engine, may_go = build(max_waiting=1), threading.Event()
    spaces.before_call = may_go.wait
    response = engine.submit(ask())
    try:
        with pytest.raises(BusyError, match="busy"):
            engine.submit(ask())
        engine.stop()
        with pytest.raises(BusyError, match="stopped"):
            list(response)
        with pytest.raises(BusyError, match="stopping"):
            engine.submit(ask())
    finally:
        may_go.set()


def test_a_longer_answer_asks_for_more_seconds_up_to_a_limit(build: Build, spaces: FakeSpaces) -> None:
    engine = build()
    for options in (GenerationOptions(max_new_tokens=1), GenerationOptions(max_new_tokens=64), BEST):
        list(engine.submit(ask(options=options)))
    assert spaces.durations == sorted(set(spaces.durations))
    assert max(spaces.durations) <= zero_gpu.MAX_SECONDS


def test_the_page_sees_a_ready_engine_without_graphs(build: Build) -> None:
    status = build().status()
    assert (status.status, status.decode, status.rows) == ("ready", "eager", 1)


def test_off_zero_gpu_the_real_decorator_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    spaces = pytest.importorskip("spaces")
    assert spaces.GPU(zero_gpu._answer, duration=seconds_on_gpu) is zero_gpu._answer


def test_a_server_on_zero_gpu_has_this_engine(monkeypatch: pytest.MonkeyPatch, spaces: FakeSpaces) -> None:  # noqa: ARG001
    from blip_space.apps import server
    from blip_space.settings import Settings

    monkeypatch.setattr(zero_gpu, "_load", lambda model_spec, _precision: FakeModel(model_spec))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert isinstance(server._create_engine([FAKE], Settings(), threading.Event()), ZeroGpuEngine)
    monkeypatch.setenv("SPACES_ZERO_GPU", "false")
    assert not isinstance(server._create_engine([FAKE], Settings(), threading.Event()), ZeroGpuEngine)
