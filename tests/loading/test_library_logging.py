"""Library output never reaches the terminal; tested in subprocesses, since pytest captures logs and warnings."""

import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Thread

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging

from blip_space.catalogue.hub_logging import SILENCED_CLIENT
from blip_space.loading.library_logging import silenced
from tests.checkpoints import stored

PROGRAM = """
import sys
from contextlib import suppress
from dataclasses import replace
from blip_space.catalogue import read_folder
from blip_space.engine.local import LocalEngine
from blip_space.engine.request import Request
from blip_space.errors import EmptyAnswerError
from blip_space.images import SafeImage
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from blip_space.options import GenerationOptions

from pathlib import Path

for argument in sys.argv[1:]:
    folder, precision, adapter = argument.split("|")
    model = load_model(replace(read_folder(Path(folder)), adapter=adapter), precision)
    image = SafeImage(make_test_images()[0], "made")
    for quality in ("stream", "best"):
        options = GenerationOptions(max_new_tokens=4, num_beams=2, quality=quality)
        with suppress(EmptyAnswerError):  # the weights are random
            list(LocalEngine(model).generate(Request(image, "a photo of", options=options)))
"""


def test_quantized_models_and_adapters_print_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    """In int8 `MatMul8bitLt: inputs will be cast` was logged for every layer in every step."""
    adapter = stored.write_adapter(folders["opt"], tmp_path / "lora", target_modules=["q_proj", "qkv"])
    small = stored.quantize(folders["t5"], tmp_path / "small", **stored.INT8)
    loads = [f"{folders['opt']}|{precision}|{adapter}" for precision in ("bf16", "int8", "int4")]
    arguments = [sys.executable, "-c", PROGRAM, *loads, f"{small}|auto|"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "small is stored in 8 bits, so it answers in int8\n", "our own line"


@pytest.mark.parametrize("first", [SILENCED_CLIENT, silenced()])
@pytest.mark.parametrize("second", [SILENCED_CLIENT, silenced()])
def test_overlapping_threads_restore_the_settings(
    first: AbstractContextManager[None], second: AbstractContextManager[None]
) -> None:
    """The second thread restored the silenced level of the first one, for good."""
    before, entered, may_exit = _settings(), Event(), Event()

    def overlap() -> None:
        with second:
            entered.set()
            may_exit.wait(10)

    thread = Thread(target=overlap)
    with first:
        thread.start()
        assert entered.wait(10)
    assert hub_logging.get_verbosity() == hub_logging.ERROR
    assert (logging.get_verbosity() == logging.ERROR) == (second is silenced())
    may_exit.set()
    thread.join()
    assert _settings() == before
    assert logging.ERROR not in before


def _settings() -> tuple[int, int, bool, bool]:
    bars = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    return logging.get_verbosity(), hub_logging.get_verbosity(), *bars
