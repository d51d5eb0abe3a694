"""Two replicas behind one server: they answer like one engine, even if one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from benchmarks.cluster import LocalCluster
from blip_space.apps.cluster.replica import EngineReplica
from blip_space.engine.request import EngineConfig, Request
from blip_space.images import ImageFile
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.example_images import blue_circles

ROOT = Path(__file__).resolve().parents[3]
COUNT, WAIT = "How many circles are there?", "wait"
SERVE = f"""
import asyncio, sys
from dataclasses import replace
from blip_space import settings
settings.prepare_libraries()
from blip_space.apps import cli
from blip_space.apps.cluster import replicated_engine
from blip_space.apps.cluster.replica import EngineReplica, PartialResponse

class EndlessReplica(EngineReplica):
    blocked = 0

    async def answer(self, request):
        if request.prompt != {WAIT!r}:
            async for part in super().answer(request):
                yield part
            return
        self.blocked += 1
        try:
            while True:
                yield PartialResponse("so far")
                await asyncio.sleep(0.1)
        finally:
            self.blocked -= 1

    def status(self):
        return replace(super().status(), running=self.blocked)

replicated_engine.EngineReplica = EndlessReplica
sys.exit(cli.main(["serve", *sys.argv[1:]]))
"""
"""The command itself, except that an answer to `wait` never ends, as no real model's would; `running` counts those."""


class Server:
    """`serve --ray` in a process of its own, on the tests' cluster."""

    def __init__(self, folder: Path, address: str) -> None:
        port = free_port()
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log.txt"
        command = [sys.executable, "-c", SERVE, "--ray", address, "--port", str(port), "--replicas", "2"]
        environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def health(self) -> dict[str, Any]:
        health: dict[str, Any] = httpx.get(f"{self.url}/healthz", timeout=60).json()
        return health

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The reply of `/healthz` once the condition is true."""
        deadline, health = time.monotonic() + 180, dict[str, Any]()
        while not (health and condition(health)):
            assert time.monotonic() < deadline, (health, self.log.read_text())
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
            try:
                health = self.health()
            except httpx.TransportError:
                continue
        return health


@pytest.fixture(scope="module")
def server(machines: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("served"), machines.address)
    yield server
    server.process.kill()


@pytest.fixture(scope="module")
def caller(server: Server) -> Client:
    """A program that calls the API once both replicas are ready."""
    server.wait_for(lambda health: health["replicas"] == 2)
    return Client(server.url, verbose=False)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    (tmp_path / "circles.png").write_bytes(blue_circles())
    return handle_file(tmp_path / "circles.png")


@pytest.fixture
def files(tmp_path: Path) -> list[Any]:
    """So many images that one replica hardly ever gets them all."""
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(blue_circles(size=(400, 200 + number)))
    return [handle_file(file) for file in sorted(tmp_path.iterdir())]


def test_equal_images_go_to_the_same_replica(caller: Client, server: Server, files: list[Any]) -> None:
    for file in files * 2:
        assert caller.predict(file, COUNT, api_name="/chat") == "three"
    server.wait_for(lambda health: health["prefix_hits"] == len(files))


def test_replicas_answer_and_refuse_like_one_engine(caller: Client, file: Any) -> None:
    assert caller.predict(file, COUNT, language="de", api_name="/chat") == "drei"
    assert caller.predict(file, api_name="/caption") == "three blue circles"
    assert [*caller.submit(file, "Describe the picture.", api_name="/chat")][-1]
    (record,) = caller.submit([file], api_name="/batch").result()["records"]
    assert (record["caption"], record["tokens"] > 0) == ("three blue circles", True)
    assert caller.predict(COUNT, api_name="/budget")["context_tokens"] == 512
    assert caller.predict(api_name="/models")[0]["loaded"]
    with pytest.raises(Exception, match=r"tiny does not support Esperanto; it supports"):
        caller.predict(file, COUNT, language="eo", api_name="/chat")
    with pytest.raises(Exception, match=r"it has 6,004 tokens, and 500 fit"):
        caller.predict(file, "why " * 2_000, api_name="/chat")


def test_a_cancelled_request_frees_its_replica(caller: Client, server: Server, file: Any) -> None:
    job = caller.submit(file, WAIT, api_name="/chat")
    server.wait_for(lambda health: health["running"] == 1)
    job.cancel()
    server.wait_for(lambda health: health["running"] == 0)


def test_after_a_replica_dies_requests_are_answered_and_it_is_replaced(
    caller: Client, server: Server, machines: LocalCluster, files: list[Any]
) -> None:
    machines.worker_processes("ServeReplica")[0].kill()
    for file in files:
        assert caller.predict(file, COUNT, api_name="/chat") == "three"
    server.wait_for(lambda health: health["replicas"] == 1)
    server.wait_for(lambda health: health["replicas"] == 2)


def test_the_server_stops_on_sigterm(server: Server, machines: LocalCluster) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(120) == 0
    assert not machines.worker_processes("ServeReplica")
    assert "Traceback" not in server.log.read_text()


def test_closing_a_replicas_stream_cancels_its_response(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    engine.hold()
    monkeypatch.setattr("blip_space.apps.cluster.replica.ThreadedEngine", lambda *_, **__: engine)

    async def read_one_part() -> str:
        answer = EngineReplica([PARROT], "auto", EngineConfig()).answer(Request(ImageFile(blue_circles()), "one two"))
        part = await anext(answer)
        await answer.aclose()
        return part.text

    assert asyncio.run(read_one_part()) == "one"
    assert engine.responses[0].done
