"""`python -m benchmarks.trace chat|ask|folder|step`: the functions and modules of blip_space that one request calls.

Prints each thread's calls in order, module by module, and counts calls, distinct functions, modules, moves from one
module to another, and returns to an earlier module; then the same for all threads together. Loading a model,
transformers' cache layers, building argument parsers and comprehensions are excluded.

chat is the first request to a loaded model, from `/chat`'s handler to the first text that it yields; since the engine
continues meanwhile, the calls up to the first published text are counted too. step is the third step of a request that
runs alone: `EngineCore.step` itself, and then up to the next step, with what its thread does between two steps.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import blip_space
from blip_space import catalogue, images, settings

ROOT = str(Path(blip_space.__file__).parent) + os.sep
IMAGE = catalogue.TINY_FOLDER.parent / "examples" / "octopus.png"
EXCLUDED = (
    "<listcomp>",
    "<genexpr>",
    "<dictcomp>",
    "<setcomp>",
    "<lambda>",
    "<module>",
    "_Layer",
    ":_parser",
    ":add_",
)
LOADING = re.compile(r"(loading|apps/cli)/\w+\.py:_?load")
"""These functions, and what they call, are not part of a request."""

TRACED_STEP = 3


class Call(NamedTuple):
    """One call of a function."""

    thread: str
    module: str
    function: str


class Recorder:
    """Records the calls of functions of blip_space in all threads while `is_on`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.is_on = False
        self._loading: dict[int, FrameType] = {}
        """The frame that loads a model, by thread."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Profile this thread, and those that are started in the context."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record calls until the context ends."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or not frame.f_code.co_filename.startswith(ROOT):
            return
        thread = threading.get_ident()
        if event == "return" and self._loading.get(thread) is frame:
            del self._loading[thread]
        elif event == "call" and thread not in self._loading:
            self._record(frame, thread)

    def _record(self, frame: FrameType, thread: int) -> None:
        module = frame.f_code.co_filename[len(ROOT) :].replace(os.sep, "/")
        name = frame.f_code.co_qualname
        if LOADING.match(f"{module}:{name}"):
            self._loading[thread] = frame
        elif not any(part in f":{name}" for part in EXCLUDED):
            self.calls.append(Call(threading.current_thread().name, module, name))


def main() -> None:
    """Trace one request and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("kind", choices=("chat", "ask", "folder", "step"))
    kind = parser.parse_args().kind
    settings.prepare_libraries()
    recorder = Recorder()
    with recorder.installed():
        if kind == "chat":
            trace_chat(recorder)
        elif kind == "step":
            trace_step(recorder)
        else:
            trace_command(recorder, kind)


def trace_chat(recorder: Recorder) -> None:
    """Trace `/chat` from its handler to its first text."""
    from gradio.utils import get_upload_folder

    from blip_space.apps.gradio_api.endpoints import Endpoints

    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    with _engine() as engine, tempfile.TemporaryDirectory(dir=get_upload_folder()) as folder:
        uploaded = shutil.copy(IMAGE, folder)
        reply = Endpoints(engine).chat({"path": uploaded, "meta": {"_type": "gradio.FileData"}}, "What is this?")
        with recorder.on():
            next(text for text in reply if text)
    show("/chat: from the handler to the first text", recorder.calls)
    print(f"until it is published: {summary(until_published(recorder.calls))}")


def trace_step(recorder: Recorder) -> None:
    """Trace one decode step with one running request."""
    from blip_space.engine.core import EngineCore
    from blip_space.engine.request import Request

    step, steps, alone = EngineCore.step, iter(range(1, sys.maxsize)), list[Call]()

    def traced_step(core: EngineCore, *arguments: Any, **named: Any) -> Any:
        number = next(steps)
        recorder.is_on = number == TRACED_STEP
        outputs = step(core, *arguments, **named)
        if recorder.is_on:
            alone.extend(recorder.calls)
        return outputs

    with _engine() as engine, _replaced(EngineCore, "step", traced_step):
        image = images.decode(IMAGE.with_name("dog-and-two-cats.png"))
        list(engine.submit(Request(image, "What is in the image?")))
    show("EngineCore.step with one running request", alone)
    show("the same, until the next step begins", recorder.calls)


def trace_command(recorder: Recorder, kind: str) -> None:
    """Trace a command, without loading its model."""
    from blip_space.apps import cli

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        shutil.copy(IMAGE, folder)
        ask = ["ask", str(IMAGE), "What is this?"]
        job = ["folder", str(folder), "--output", f"{temporary}/captions.jsonl", "--quality", "stream"]
        with recorder.on():
            cli.main(ask if kind == "ask" else job)
    show(f"blip_space {kind}", recorder.calls)


def show(title: str, calls: Sequence[Call]) -> None:
    """Print each thread's calls by module, and the counts."""
    print(f"== {title}")
    for thread in _threads(calls):
        own = [call for call in calls if call.thread == thread]
        print(f"{thread}: {summary(own)}")
        for module, visit in groupby(own, key=lambda call: call.module):
            print(f"    {module} {' > '.join(dict.fromkeys(call.function for call in visit))}")
    print(f"together: {summary(calls)}")
    print(f"moves of all threads: {moves(calls)}")


def summary(calls: Sequence[Call]) -> str:
    """The counts of calls, functions, modules, moves and returns."""
    functions = {call[1:] for call in calls}
    modules = {call.module for call in calls}
    return (
        f"{len(calls)} calls, {len(functions)} functions, {len(modules)} modules, {moves(calls)} moves, "
        f"{sum(_returns(visits) for visits in _visits(calls))} returns"
    )


def moves(calls: Sequence[Call]) -> int:
    """The number of moves from one module to another, over all threads."""
    return sum(len(visits) - 1 for visits in _visits(calls))


def until_published(calls: Sequence[Call]) -> list[Call]:
    """The calls without those of a thread after it has published the first text."""
    before, published = list[Call](), set[str]()
    for call in calls:
        if call.thread not in published:
            before.append(call)
        if call.function.endswith("publish"):
            published.add(call.thread)
    return before


def _visits(calls: Sequence[Call]) -> list[list[str]]:
    """The modules of each thread's calls, in order."""
    return [
        [module for module, _ in groupby(call.module for call in calls if call.thread == thread)]
        for thread in _threads(calls)
    ]


def _returns(visits: Sequence[str]) -> int:
    return len(visits) - len(set(visits))


def _threads(calls: Sequence[Call]) -> list[str]:
    return list(dict.fromkeys(call.thread for call in calls))


@contextmanager
def _engine() -> Iterator[Any]:
    """An engine with a loaded model, before its first request."""
    from blip_space.serving.threaded import ThreadedEngine

    engine = ThreadedEngine([catalogue.find_model("tiny")])
    engine.start()
    try:
        while engine.status().status == "loading":
            time.sleep(0.1)
        yield engine
    finally:
        engine.stop()


@contextmanager
def _replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a function of the owner until the context ends."""
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)


if __name__ == "__main__":
    main()
