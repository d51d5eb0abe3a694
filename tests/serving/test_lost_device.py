"""An engine whose GPU has failed: every answer ends with that sentence, and the engine says so and stays down."""

from __future__ import annotations

import threading

import pytest

from blip_space.errors import DeviceError, ModelError
from blip_space.loading.device import Device
from blip_space.serving.threaded import ThreadedEngine
from tests.engine.fake_model import spec
from tests.lost_device import lose_device
from tests.serving.conftest import Build
from tests.serving.example_requests import ANSWER, ask
from tests.serving.fakes import FakeLoader, wait_until

FAILED = "The GPU failed, and this process cannot use it any more"


def watch(engine: ThreadedEngine) -> threading.Event:
    """Set once the engine reports that its GPU has failed."""
    lost = threading.Event()
    engine._on_device_lost = lost.set
    return lost


@pytest.mark.parametrize("where", ["decoder", "driver"])
def test_every_answer_of_every_model_fails_and_the_engine_stays_down(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build("fake", "other", max_batch_size=1)
    lost = watch(engine)
    responses = [engine.submit(ask("Who runs?")), engine.submit(ask("Who waits?"))]
    wait_until(lambda: engine.status().running == 1)
    responses.append(engine.submit(ask("Who waits for another model?", model="other")))
    thread = engine._thread
    assert thread is not None
    if where == "decoder":
        monkeypatch.setattr(loading.last("fake"), "note_decode", lose_device)
    else:
        monkeypatch.setattr(engine._driver, "_step", lose_device)
    loading.gate.release(10_000)
    assert lost.wait(20)
    for response in responses:
        with pytest.raises(DeviceError, match=FAILED):
            list(response)
    thread.join(20)
    with pytest.raises(DeviceError, match=FAILED):
        engine.submit(ask())
    status = engine.status()
    assert (status.status, status.metrics.restarts) == ("failed", 0)
    assert status.error.startswith(FAILED)
    assert engine._thread is thread, "no other thread is started on a lost GPU"
    assert engine.fitting_precisions(engine.default) is None
    assert loading.events == ["load fake"]


def test_a_gpu_that_fails_while_a_model_loads_is_no_error_of_that_model(build: Build) -> None:
    engine = build(start=False)
    lost = watch(engine)
    engine._models._load = lose_device
    response = engine.submit(ask())
    engine.start()
    assert lost.wait(20)
    with pytest.raises(DeviceError, match=FAILED):
        list(response)
    assert engine.status().status == "failed"
    assert engine.status().error.startswith(FAILED)


def test_a_model_that_does_not_load_is_no_lost_gpu(build: Build, loading: FakeLoader) -> None:
    loading.failing.add("other")
    engine = build("fake", "other")
    lost = watch(engine)
    with pytest.raises(ModelError):
        list(engine.submit(ask(model="other")))
    assert list(engine.submit(ask()))[-1] == ANSWER
    assert not lost.is_set()


def test_models_are_loaded_and_measured_on_the_engines_device(monkeypatch: pytest.MonkeyPatch) -> None:
    devices, gpu = list[str](), Device("cuda:3", "", has_bf16=True)

    def find_device(name: str) -> Device:
        devices.append(name)
        return gpu

    loading = "blip_space.loading"
    monkeypatch.setattr(f"{loading}.device.find_device", find_device)
    monkeypatch.setattr(f"{loading}.device.free_bytes", lambda _: 1)
    monkeypatch.setattr(f"{loading}.loader.load_model", lambda *_, device, **__: devices.append(device))
    monkeypatch.setattr(
        f"{loading}.memory.fitting_precisions", lambda *_, device_name, **__: devices.append(device_name)
    )
    engine = ThreadedEngine([spec("fake")], device="cuda:3")
    assert engine._models._find_memory() == (gpu, 1)
    engine._models._load(engine.default, "auto", engine._models.progress)
    engine._machine.fitting_precisions(engine.default, freed=0)
    assert devices == ["cuda:3"] * 3
