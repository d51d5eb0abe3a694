"""What runs in the process of a `ProcessEngine`: a `ThreadedEngine`, whose answers are sent through a pipe.

The process ends with the one that started it. Must not import torch at module level, nor an app.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any
from weakref import WeakValueDictionary

from blip_space.engine.output import ANSWER_FAILED
from blip_space.engine.request import Request
from blip_space.errors import DEVICE_EXIT_CODE, UserError
from blip_space.images.uploaded import UploadedImageFile
from blip_space.serving import log_formats
from blip_space.serving.process_messages import Call, Cancel, Message, Outbox, Part, Reply, Stop, Submit
from blip_space.serving.protocol import stopped
from blip_space.serving.response import ResponseStream
from blip_space.serving.server_memory import keep_small
from blip_space.serving.threaded import ThreadedEngine

log = logging.getLogger(__name__)

Build = Callable[..., ThreadedEngine]
"""Returns an engine that is not started, given `on_device_lost`."""

SWITCH_SECONDS = 0.001
"""How long the engine's thread, back from the GPU, waits for a thread that runs Python; Python's default is five times
as long, as long as a step."""

MAX_PREPARING = 16
"""How many images of users are decoded and resized at once, on as many processors, and how many of batches."""

CALL_THREADS = 4
INLINE_CALLS = ("status", "queue_position")
"""Calls that return at once, on the thread that receives them."""


class SentResponse(ResponseStream):
    """A response whose reader is in another process."""

    def __init__(self, id_: int, outbox: Outbox, *, deadline: float) -> None:
        super().__init__(deadline=deadline)
        self._id, self._outbox = id_, outbox

    def publish(self, text: str, *, finished: bool = False) -> None:
        """See `ResponseStream`."""
        with self._changed:
            if self._finished:
                return
            is_first = not self._text
            super().publish(text, finished=finished)
            part = Part(self._id, self._text, self.tokens, finished, self.repeats, prompt_tokens=self.prompt_tokens)
        if finished or is_first:
            self._outbox.post(part)
        else:
            self._outbox.post_later(part)

    def fail(self, error: UserError) -> None:
        """See `ResponseStream`."""
        with self._changed:
            if self._finished:
                return
            super().fail(error)
        self._outbox.post(Part(self._id, error=error))


def run_engine(connection: Connection, build: Build, log_level: int, log_format: str) -> None:
    """The whole of the process: receive messages until `Stop`, or until the other process has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and systemd send it to both processes
        signal.signal(number, signal.SIG_IGN)  # the other one says when to stop, and this one ends with it
    sys.setswitchinterval(SWITCH_SECONDS)
    log_formats.configure(log_format)
    logging.getLogger("blip_space").setLevel(log_level)
    outbox = Outbox(connection.send)

    def end_with_device() -> None:
        outbox.close()
        _exit(DEVICE_EXIT_CODE)

    engine = build(on_device_lost=end_with_device)
    engine.start()
    keep_small(engine)
    receiver = _Receiver(engine, outbox)
    try:
        while not isinstance(message := connection.recv(), Stop):
            receiver.receive(message)
    except (EOFError, OSError):
        _exit(0)
    engine.stop()
    outbox.close()
    _exit(0)


class _Receiver:
    """Does what messages say; none blocks the next one."""

    def __init__(self, engine: ThreadedEngine, outbox: Outbox) -> None:
        self._engine, self._outbox = engine, outbox
        self._responses: WeakValueDictionary[int, SentResponse] = WeakValueDictionary()
        """Those that the engine still has."""

        threads = min(max(CALL_THREADS, _count_processors()), MAX_PREPARING)
        self._preparing = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._background = ThreadPoolExecutor(threads, thread_name_prefix="prepare background")  # no user waits for it
        self._calling = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="calls")

    def receive(self, message: Message) -> None:
        """Start to do what a message says."""
        if isinstance(message, Submit):
            response = SentResponse(message.id, self._outbox, deadline=time.monotonic() + message.seconds)
            self._responses[message.id] = response
            threads = self._background if message.request.background else self._preparing
            threads.submit(self._answer, message.request, response)
        elif isinstance(message, Cancel):
            if running := self._responses.get(message.id):
                running.cancel()
        elif isinstance(message, Call):
            if message.method in INLINE_CALLS:
                self._call(message)
            elif message.method == "check_image":  # as slow as an answer's preparation
                self._preparing.submit(self._call, message)
            else:
                self._calling.submit(self._call, message)

    def _answer(self, request: Request, response: SentResponse) -> None:
        if response.done:  # cancelled meanwhile
            return
        try:
            self._engine.answer(request, response)
        except UserError as error:
            # it was accepted before the stop, and its caller cannot know that it is only prepared now
            response.fail(stopped(was_running=False) if error.code == "stopping" else error)
        except Exception:
            log.exception("a request could not be prepared")
            response.fail(UserError(ANSWER_FAILED, code="internal_error"))

    def _call(self, call: Call) -> None:
        try:
            reply = Reply(call.id, self._method(call.method)(**call.values))
        except UserError as error:
            reply = Reply(call.id, error=error)
        except Exception:
            log.exception("a call of %s failed", call.method)
            reply = Reply(call.id, error=UserError(ANSWER_FAILED, code="internal_error"))
        self._outbox.post(reply)

    def _method(self, name: str) -> Callable[..., Any]:
        own: dict[str, Callable[..., Any]] = {"queue_position": self._queue_position, "check_image": _check_image}
        method: Callable[..., Any] = own.get(name) or getattr(self._engine, name)
        return method

    def _queue_position(self, answer: int) -> int | None:
        response = self._responses.get(answer)
        return response.queue_position() if response else None


def _check_image(image: UploadedImageFile) -> None:
    image.check()


def _count_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _exit(code: int) -> Any:
    """End the process without waiting for threads or for a GPU."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
