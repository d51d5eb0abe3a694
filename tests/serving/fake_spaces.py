"""The package `spaces` as it is on ZeroGPU: a decorated generator runs in a forked process, and whatever goes there or
comes back is pickled. A call that is closed sets an event, which the process sees after its next output."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

FORK = multiprocessing.get_context("fork")


class FakeSpaces:
    """The module; it remembers the calls' durations and processes, and counts their outputs."""

    def __init__(self) -> None:
        self.durations: list[float] = []
        self.processes: list[Any] = []
        self.outputs = 0
        self.before_call: Callable[[], object] = lambda: None
        """Called where `spaces` asks for a GPU."""

    def GPU(  # noqa: N802  # the name in spaces
        self, task: Callable[..., Iterator[Any]], *, duration: Callable[..., float]
    ) -> Callable[..., Iterator[Any]]:
        def call(*arguments: Any) -> Iterator[Any]:
            self.durations.append(duration(*arguments))
            self.before_call()
            receiver, sender = FORK.Pipe(duplex=False)
            stop, pickled = FORK.Event(), bytes(ForkingPickler.dumps(arguments))
            process = FORK.Process(target=_run, args=(task, pickled, sender, stop), daemon=True)
            process.start()
            sender.close()
            self.processes.append(process)
            try:
                while (result := ForkingPickler.loads(receiver.recv_bytes()))[0] == "output":
                    self.outputs += 1
                    yield result[1]
            finally:
                stop.set()
                process.join()
            if result[0] == "error":
                raise RuntimeError(result[1])

        return call


def _run(task: Callable[..., Iterator[Any]], pickled: bytes, sender: Any, stop: Any) -> None:
    outputs = task(*ForkingPickler.loads(pickled))
    try:
        for output in outputs:
            if stop.is_set():
                break
            sender.send_bytes(bytes(ForkingPickler.dumps(("output", output))))
        sender.send_bytes(bytes(ForkingPickler.dumps(("end", None))))
    except Exception as error:
        sender.send_bytes(bytes(ForkingPickler.dumps(("error", type(error).__name__))))
