"""The process of a `ProcessEngine`, the pipe to it, and every answer and call that it has not ended yet.

Depends on messages and responses; must not import torch.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import pickle
import queue
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # another class before Python 3.11
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
        self._lock = threading.Lock()
        self._responses: dict[int, ResponseStream] = {}
        self._calls: dict[int, Future[Any]] = {}
        self._is_stopping, self._ended = False, threading.Event()
        self._outgoing = queue.SimpleQueue[bytes | None]()
        """Pickled messages, then None at the end. Sent by a thread of their own: the process does not read while it
        starts, and the pipe holds less than one image."""

        self._sender = threading.Thread(target=self._send_outgoing, name="to the engine", daemon=True)
        self._sender.start()

    def submit(self, request: Request, response: ResponseStream, seconds: float) -> None:
        """Send a request, whose answer may take that many seconds; every error ends the response."""
        answer = next(_ids)
        response.queue_position = lambda: self._queue_position(answer)
        response.on_cancel = lambda: self._cancel(answer)
        with self._lock:
            self._responses[answer] = response
        self._send(Submit(answer, request, seconds))
        if self.has_ended:  # maybe before the response was there to be ended
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
            if self.has_ended:
                raise self._reason
            return future.result(timeout)
        except FutureTimeoutError:
            raise TimeoutError from None
        finally:
            with self._lock:
                self._calls.pop(call, None)

    def stop(self) -> None:
        """Let the process end every answer and then itself, or kill it if it hangs; `receive` returns after that."""
        self._is_stopping = True
        self._send(Stop())
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
        self._outgoing.put(None)
        self._sender.join()
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
        return stopped(was_running=True) if self._is_stopping else UserError(ENGINE_ENDED, code="internal_error")

    def _send(self, message: Message) -> None:
        """Have a message sent, unless the process ends before; the caller does not wait."""
        self._outgoing.put(pickle.dumps(message))

    def _send_outgoing(self) -> None:
        with suppress(OSError):  # the process has ended
            while (message := self._outgoing.get()) is not None:
                self._connection.send_bytes(message)

    def _cancel(self, answer: int) -> None:
        self._forget(answer)
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
            response.fail(
                UserError(ENGINE_ENDED, code="internal_error") if isinstance(part.error, DeviceError) else part.error
            )
            return
        self.has_answered = True
        response.tokens, response.repeats = part.tokens, part.repeats
        response.prompt_tokens = part.prompt_tokens
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
