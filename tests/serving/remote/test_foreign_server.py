"""A server that is not ours: `transformers serve` with a small LLaVA of random weights, whose answers make no sense."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from blip_space import catalogue
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import UserError
from blip_space.images import ImageFile
from blip_space.options import GenerationOptions
from blip_space.serving.remote.engine import RemoteEngine
from tests.apps.conftest import free_port
from tests.checkpoints import llava
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

SHORT = GenerationOptions(max_new_tokens=12)
START = "from transformers.cli.transformers import main; main()"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteEngine]:
    """The engine of the server's model, once it responds."""
    folder = llava.write(tmp_path_factory.mktemp("llava"))
    cache, port, log = tmp_path_factory.mktemp("cache"), free_port(), tmp_path_factory.mktemp("log") / "log"
    options = ("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32")
    command = [sys.executable, "-c", START, "serve", str(folder), *options]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    name = f"openai:http://127.0.0.1:{port}/v1#{folder}"
    engine = RemoteEngine(catalogue.find_model(name, folders=True), config=EngineConfig(max_batch_size=2))
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    engine.start()
    try:
        wait_until(lambda: engine.status().status == "ready" or process.poll() is not None)
        assert process.poll() is None, log.read_text("utf-8", "replace")[-2_000:]
        yield engine
    finally:
        engine.stop()
        process.kill()
        process.wait()


def ask(image: bytes, prompt: str = "What is this?") -> Request:
    return Request(ImageFile(image), prompt, options=SHORT)


def test_it_streams_answers_that_depend_on_image_and_history(engine: RemoteEngine) -> None:
    first, same, other = (engine.submit(ask(blue_circles(count))) for count in (1, 1, 7))
    texts = [list(response)[-1] for response in (first, same, other)]
    assert texts[0] == texts[1] != texts[2]
    assert 0 < first.tokens <= 12
    with_turns = replace(ask(blue_circles(1)), turns=(("Where?", "here"),))
    assert list(engine.submit(with_turns))[-1] != texts[0]


def test_what_it_does_not_take_is_a_sentence(engine: RemoteEngine) -> None:
    request = ask(blue_circles(1))
    penalised = replace(request, options=replace(SHORT, repetition_penalty=1.5))
    with pytest.raises(UserError, match="refuses the request with status 422"):
        list(engine.submit(penalised))
    assert list(engine.submit(request))[-1]
