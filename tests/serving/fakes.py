"""A fake loader of fake models, and a machine with as much memory as a test sets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.loading.device import Device
from blip_space.loading.progress import LoadEvent
from tests.engine.fake_model import FakeModel, FakePreparation

GIGABYTE = 10**9


class Flag(Protocol):
    """A `threading.Event`, or its replacement between processes."""

    def wait(self) -> object: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...


class FileFlag:
    """A flag between processes: set while the file does not exist."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def wait(self) -> None:
        pause = threading.Event()
        while self._file.exists():
            pause.wait(0.01)

    def set(self) -> None:
        self._file.unlink(missing_ok=True)

    def clear(self) -> None:
        self._file.touch()


class Gate:
    """Blocks tokens while its flag is not set; replaces a semaphore in a fake model."""

    def __init__(self, flag: Flag) -> None:
        self.flag = flag

    def acquire(self) -> None:
        self.flag.wait()


class FakeLoader:
    """Loads fake models into `memory_bytes` of memory, keeps a list of them, and fails for the names in `failing`.

    `memory_bytes` None is a machine that does not report its free memory. A load blocks until `may_finish` is set, and
    advances `now` by `load_seconds`.
    """

    def __init__(self) -> None:
        self.models: list[FakeModel] = []
        self.events: list[str] = []
        """What was loaded, failed and closed, in order."""

        self.failing: set[str] = set()
        self.gate: Any = None
        self.memory_bytes: int | None = None
        self.may_finish = threading.Event()
        self.may_finish.set()
        self.load_seconds = 0.0
        self.now = 0.0
        self._preparations: dict[str, FakePreparation] = {}

    def __call__(self, spec: ModelSpec, precision: str, progress: Any) -> FakeModel:
        assert precision == "auto"
        progress(LoadEvent("load", 1, 4))
        self.may_finish.wait()
        self.now += self.load_seconds
        self.events.append(f"load {spec.name}")
        if spec.name in self.failing:
            raise ModelError(f"{spec.name} has no weights. Download it again.")
        self.models.append(SizedModel(spec, self))
        return self.models[-1]

    def prepare(self, spec: ModelSpec) -> FakePreparation:
        """The tokenizer of a model, which shares its vocabulary."""
        return self._preparations.setdefault(spec.name, FakePreparation(spec))

    def find_memory(self) -> tuple[Device, int | None]:
        """The CPU, and its free bytes."""
        used = sum(model.nbytes for model in self.models if not model.closed)
        return Device("cpu", "", has_bf16=False), None if self.memory_bytes is None else self.memory_bytes - used

    def clock(self) -> float:
        """The seconds that a test has let pass."""
        return self.now

    def last(self, name: str) -> FakeModel:
        """The newest model of that name."""
        return next(model for model in reversed(self.models) if model.spec.name == name)


class SizedModel(FakeModel):
    """A fake model of the size that its spec gives, which records when it is closed."""

    def __init__(self, spec: ModelSpec, loading: FakeLoader) -> None:
        super().__init__(spec)
        self.words = loading.prepare(spec).words
        self.gate = loading.gate
        self.nbytes = int(spec.memory_gb["fp32"] * GIGABYTE)
        self._loading = loading

    def close(self) -> None:
        self._loading.events.append(f"close {self.spec.name}")
        super().close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a state of another thread; a test where it never comes fails by its time limit."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.002)
