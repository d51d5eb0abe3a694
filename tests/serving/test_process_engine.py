"""An engine in a process of its own fulfils the contract of every engine, and starts again when the process ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from blip_space.callers import Caller
from blip_space.engine.request import EngineConfig
from blip_space.errors import BusyError, ImageError, ModelError, UserError
from blip_space.images import ImageFile, uploaded
from blip_space.loading.device_errors import DEVICE_FAILED
from blip_space.serving import child_process
from blip_space.serving.child_process import ENGINE_ENDED
from blip_space.serving.process_engine import MAX_FAILED_STARTS, NOT_STARTED, ProcessEngine
from blip_space.serving.response import ResponseStream
from tests.engine.fake_model import spec
from tests.example_images import blue_circles
from tests.serving.child_engines import FakeBuild
from tests.serving.contract import CONFIG, QUESTION, SPECS, EngineContract, ask, error_message
from tests.serving.fakes import FileFlag, wait_until


class Separate:
    """An engine with fake models in another process."""

    def __init__(self, folder: Path, config: EngineConfig = CONFIG) -> None:
        self.build = FakeBuild(SPECS, config, folder)
        self.lost = threading.Event()
        self.engine = ProcessEngine(SPECS, config=config, build=self.build, on_device_lost=self.lost.set)
        flag = FileFlag(self.build.hold)
        self.hold, self.release = flag.clear, flag.set

    def start(self) -> None:
        self.engine.start()
        wait_until(lambda: self.engine.status().status == "ready")

    def is_running(self) -> bool:
        return self.engine.status().running == 1

    def close(self) -> None:
        self.release()
        self.engine.stop()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        child = self.engine._child
        assert child is not None
        pid = child._process.pid
        assert pid is not None
        return pid


@pytest.fixture(scope="class")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Separate]:
    """One for all tests of the contract, since a process takes seconds to start; the last test stops it."""
    subject = Separate(tmp_path_factory.mktemp("process"))
    subject.start()
    yield subject
    subject.close()


@pytest.fixture
def separate(tmp_path: Path) -> Iterator[Separate]:
    """One that is not started yet."""
    subject = Separate(tmp_path, EngineConfig(max_batch_size=2, max_waiting=2, failure_seconds=0.1))
    yield subject
    subject.close()


class TestProcessEngine(EngineContract):
    @pytest.fixture
    def subject(self, shared: Separate) -> Separate:
        return shared


def test_the_status_has_the_memory_of_its_process(separate: Separate) -> None:
    separate.start()
    status = (Path("/proc") / str(separate.pid) / "status").read_text("utf-8")
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    metrics = separate.engine.status().metrics
    assert 10_000_000 < metrics.memory_bytes <= peak + 50_000_000
    assert metrics.device_memory_bytes == 0


def test_the_process_checks_images_for_the_server(separate: Separate, monkeypatch: pytest.MonkeyPatch) -> None:
    separate.start()
    monkeypatch.setattr(uploaded, "POOL", None)
    uploaded.check_by(separate.engine.check_image)
    try:
        uploaded.UploadedImageFile(blue_circles()).check()
        with pytest.raises(ImageError) as refused:
            uploaded.UploadedImageFile(b"no image").check()
    finally:
        uploaded.check_by(None)
    assert refused.value.code == "unreadable_image"


def test_before_its_start_an_engine_loads_and_refuses(separate: Separate) -> None:
    engine = separate.engine
    assert engine.status().status == "loading"
    assert error_message(lambda: engine.submit(ask())) == NOT_STARTED
    assert engine.fitting_precisions(SPECS[0]) is None
    engine.stop()
    with pytest.raises(BusyError, match="is stopping"):
        engine.submit(ask())


def test_the_process_knows_whose_a_request_is(separate: Separate) -> None:
    separate.start()
    separate.hold()
    greedy, quiet = Caller("127.0.0.2", "one"), Caller("127.0.0.3", "one")
    running = separate.engine.submit(replace(ask(), caller=greedy))
    wait_until(separate.is_running)
    waiting: list[ResponseStream] = []
    for caller in (greedy, quiet):
        waiting.append(separate.engine.submit(replace(ask(), caller=caller)))
        wait_until(lambda: separate.engine.status().waiting == len(waiting))
    assert [response.queue_position() for response in (*waiting, running)] == [1, 0, None]


def test_a_process_that_dies_fails_its_answers_and_another_one_takes_its_place(separate: Separate) -> None:
    separate.start()
    engine, first = separate.engine, separate.pid
    os.kill(first, signal.SIGTERM)  # which systemd sends to all processes: only the server's own decides
    assert list(engine.submit(ask()))
    assert engine.fitting_precisions(SPECS[0]) is not None
    separate.hold()
    responses = [engine.submit(ask())]
    wait_until(separate.is_running)
    responses += [engine.submit(ask()) for _ in range(2)]
    wait_until(lambda: engine.status().waiting == 2)
    assert {response.queue_position() for response in responses} == {None, 0, 1}
    os.kill(first, signal.SIGKILL)
    for response in responses:
        with pytest.raises(UserError, match=ENGINE_ENDED) as caught:
            list(response)
        assert caught.value.code == "internal_error"
    separate.release()
    wait_until(partial(has_restarted, separate, 1))
    assert separate.pid != first
    assert QUESTION in list(engine.submit(ask()))[-1]
    assert not separate.lost.is_set()


@pytest.mark.parametrize(("question", "times"), [("please die now", 1), ("please lose it", MAX_FAILED_STARTS)])
def test_a_process_that_an_answer_ends_is_started_again(separate: Separate, question: str, times: int) -> None:
    separate.start()
    for time in range(times):
        assert error_message(lambda: list(separate.engine.submit(ask(question)))) == ENGINE_ENDED
        wait_until(partial(has_restarted, separate, time + 1))
    assert QUESTION in list(separate.engine.submit(ask()))[-1]
    assert not separate.lost.is_set()


def has_restarted(separate: Separate, times: int) -> bool:
    status = separate.engine.status()
    return status.status == "ready" and status.metrics.restarts == times


def test_a_cancelled_request_leaves_the_queue_of_the_process(separate: Separate) -> None:
    separate.start()
    separate.hold()
    running = separate.engine.submit(ask())
    wait_until(separate.is_running)
    waiting = [separate.engine.submit(ask()) for _ in range(2)]
    wait_until(lambda: separate.engine.status().waiting == 2)
    with pytest.raises(BusyError, match="2 questions are waiting"):
        list(separate.engine.submit(ask()))
    waiting[0].cancel()
    late = separate.engine.submit(ask())
    wait_until(lambda: late.queue_position() == 1)
    separate.release()
    for response in (running, waiting[1], late):
        assert QUESTION in list(response)[-1]


def test_a_process_that_never_starts_is_tried_again_later(separate: Separate) -> None:
    separate.build.broken.write_text("die")
    separate.engine.start()
    wait_until(lambda: "tried again in 0 s" in separate.engine.status().error)
    separate.build.broken.unlink()
    wait_until(lambda: separate.engine.status().metrics.restarts >= 3)
    assert QUESTION in list(separate.engine.submit(ask()))[-1]


def test_a_gpu_that_no_process_can_use_is_lost(separate: Separate) -> None:
    separate.build.broken.write_text("lose")
    separate.engine.start()
    assert separate.lost.wait(240)
    status = separate.engine.status()
    assert (status.status, status.error) == ("failed", DEVICE_FAILED)
    with pytest.raises(ModelError, match="The GPU failed"):
        separate.engine.submit(ask())


def test_a_process_that_hangs_is_killed_at_the_end(separate: Separate, monkeypatch: pytest.MonkeyPatch) -> None:
    separate.start()
    separate.hold()
    response = separate.engine.submit(ask())
    wait_until(separate.is_running)
    pid = separate.pid
    os.kill(pid, signal.SIGSTOP)
    assert separate.engine.status().running == 1, "the last status that is known"
    monkeypatch.setattr(child_process, "STOP_SECONDS", 0.1)
    separate.engine.stop()
    with pytest.raises(BusyError, match="stopped"):
        list(response)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_calls_do_not_wait_for_a_process_that_does_not_read(separate: Separate) -> None:
    """As while it starts; a pipe holds 64 kB or so."""
    separate.start()
    pid = separate.pid
    os.kill(pid, signal.SIGSTOP)
    image = ImageFile(os.urandom(1_000_000))
    with ThreadPoolExecutor() as threads:
        submitted = threads.submit(lambda: separate.engine.submit(ask(image=image)))
        try:
            response = submitted.result(5.0)
            threads.submit(response.cancel).result(5.0)
            assert threads.submit(separate.engine.status).result(5.0).status == "ready", "the last that is known"
        finally:
            os.kill(pid, signal.SIGCONT)
    assert QUESTION in list(separate.engine.submit(ask()))[-1]


def test_a_model_with_a_load_error_is_refused_without_the_process(separate: Separate) -> None:
    broken = spec("broken", load_error="broken has no weights.")
    with pytest.raises(ModelError, match="no weights"):
        ProcessEngine([broken], build=separate.build).submit(ask())
