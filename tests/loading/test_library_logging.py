"""What a library says of itself, a person at the terminal never reads: tried in processes of their own, since pytest
takes what is logged and warned."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

from transformers.utils import logging

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
    shown = SafeImage(make_test_images()[0], "made")
    for quality in ("stream", "best"):
        options = GenerationOptions(max_new_tokens=4, num_beams=2, quality=quality)
        with suppress(EmptyAnswerError):  # of weights that were not trained
            list(LocalEngine(model).generate(Request(shown, "a photo of", options=options)))
"""


def test_nothing_but_the_answer_is_shown_in_fewer_bits_and_with_adapters(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """In int8 `MatMul8bitLt: inputs will be cast` came for every layer of every step."""
    adapter = stored.write_adapter(folders["opt"], tmp_path / "lora", target_modules=["q_proj", "qkv"])
    small = stored.quantize(folders["t5"], tmp_path / "small", **stored.INT8)
    loads = [f"{folders['opt']}|{precision}|{adapter}" for precision in ("bf16", "int8", "int4")]
    arguments = [sys.executable, "-c", PROGRAM, *loads, f"{small}|auto|"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "small is stored in 8 bits, so it answers in int8\n", "a line of our own"


def test_two_threads_that_overlap_leave_everything_as_it_was() -> None:
    """The second one took the first one's silence for what had been there, and set it back to that for good."""
    before, inside, leave = logging.get_verbosity(), Event(), Event()

    def overlap() -> None:
        with silenced():
            inside.set()
            leave.wait(10)

    thread = Thread(target=overlap)
    with silenced():
        thread.start()
        assert inside.wait(10)
    assert logging.get_verbosity() == logging.ERROR
    leave.set()
    thread.join()
    assert logging.get_verbosity() == before != logging.ERROR
