"""The process of a `ProcessEngine`, the pipe to it, and every answer and call that it has not ended yet.

Depends on messages and responses; must not import torch.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from blip_space.engine.request import Request
from blip_space.errors import DeviceError, UserError
from blip_space.serving import log_formats
from blip_space.serving.engine_process import Build, run_engine
from blip_space.serving.process_messages import Call, Cancel, Message, Part, Sent, Stop, Submit
from blip_space.serving.protocol import stopped
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)

STOP_SECONDS = 12.0
"""A little longer than a `ThreadedEngine` waits for its thread."""

ENGINE_ENDED = "The engine failed during this answer, and the log says why. It starts again: ask again in a minute."

_ids = itertools.count(1)


class ChildProcess:
    """A spawned process that runs an engine. One thread calls `receive`, any thread everything else."""

    def __init__(self, build: Build) -> None:
        """Start the process; `build` is pickled."""
        self.has_answered = False
        """Whether it has generated anything."""

        context = multiprocessing.get_context("spawn")  # CUDA does not work in a forked process
        self._connection, theirs = context.Pipe()
        level = logging.getLogger("blip_space").getEffectiveLevel()
        self._process = context.Process(
            target=run_engine, args=(theirs, build, level, log_formats.current()), name="engine", daemon=True
        )
        self._process.start()
        theirs.close()  # else the end of the process would not end `receive`
        self._sending, self._lock = threading.Lock(), threading.Lock()
        self._responses: dict[int, ResponseStream] = {}
        self._calls: dict[int, Future[Any]] = {}
        self._is_stopping, self._ended = False, threading.Event()

    def submit(self, request: Request, response: ResponseStream, seconds: float) -> None:
        """Send a request, whose answer may take that many seconds; every error ends the response."""
        answer = next(_ids)
        response.queue_position = lambda: self._queue_position(answer)
        response.on_cancel = lambda: self._cancel(answer)
        with self._lock:
            self._responses[answer] = response
        try:
            self._send(Submit(answer, request, seconds))
        except OSError:  # it has just ended
            self._forget(answer)
            response.fail(self._reason)

    def call(self, method: str, *, timeout: float | None, **values: Any) -> Any:
        """The result of a method of the engine. Raises `UserError` if there is none, `TimeoutError` after that many
        seconds."""
        future, call = Future[Any](), next(_ids)
        with self._lock:
            self._calls[call] = future
        try:
            self._send(Call(call, method, values))
        except OSError:
            raise self._reason from None
        else:
            return future.result(timeout)
        finally:
            with self._lock:
                self._calls.pop(call, None)

    def stop(self) -> None:
        """Let the process end every answer and then itself, or kill it if it hangs; `receive` returns after that."""
        self._is_stopping = True
        threading.Thread(target=self._send_stop, daemon=True).start()  # a hanging process does not read
        if not self._ended.wait(STOP_SECONDS):
            self._process.kill()

    def receive(self) -> int | None:
        """Publish what the process sends until it ends, then end every answer and call; returns its exit code."""
        try:
            while True:
                for message in self._connection.recv():
                    self._receive(message)
        except (EOFError, OSError):
            self._process.join(STOP_SECONDS)
        except Exception:
            log.exception("a message of the engine's process could not be read")
        self._process.kill()
        self._process.join()
        with self._sending:
            self._connection.close()
        self._ended.set()
        self._end_all()
        return self._process.exitcode

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended and cannot reply."""
        return self._ended.is_set()

    @property
    def _reason(self) -> UserError:
        """Why an answer ends with the process."""
        return stopped(was_running=True) if self._is_stopping else UserError(ENGINE_ENDED)

    def _send(self, message: Message) -> None:
        """Send a message. Raises `OSError` if the process has ended."""
        with self._sending:
            self._connection.send(message)

    def _send_stop(self) -> None:
        with suppress(OSError):
            self._send(Stop())

    def _cancel(self, answer: int) -> None:
        self._forget(answer)
        with suppress(OSError):
            self._send(Cancel(answer))

    def _queue_position(self, answer: int) -> int | None:
        with suppress(UserError, TimeoutError):
            position: int | None = self.call("queue_position", timeout=1.0, answer=answer)
            return position
        return None

    def _forget(self, answer: int) -> None:
        with self._lock:
            self._responses.pop(answer, None)

    def _receive(self, message: Sent) -> None:
        if isinstance(message, Part):
            if response := self._responses.get(message.id):
                self._publish(message, response)
            return
        with self._lock:
            future = self._calls.pop(message.id, None)
        if future is None:
            return
        if message.error:
            future.set_exception(message.error)
        else:
            future.set_result(message.value)

    def _publish(self, part: Part, response: ResponseStream) -> None:
        if part.finished or part.error:
            self._forget(part.id)
        if part.error:
            # the process is started again, which the sentence of a `DeviceError` does not know
            response.fail(UserError(ENGINE_ENDED) if isinstance(part.error, DeviceError) else part.error)
            return
        self.has_answered = True
        response.tokens, response.repeats = part.tokens, part.repeats
        response.publish(part.text, finished=part.finished)

    def _end_all(self) -> None:
        with self._lock:
            responses, calls = list(self._responses.values()), list(self._calls.values())
            self._responses.clear()
            self._calls.clear()
        for response in responses:
            response.fail(self._reason)
        for future in calls:
            future.set_exception(self._reason)
