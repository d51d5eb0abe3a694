"""How far a download or a load is: what the libraries' progress bars know, told to whoever asks.

Knows the bars of huggingface_hub and transformers; draws none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tqdm.auto import tqdm
from transformers.utils import logging


@dataclass(frozen=True)
class LoadEvent:
    """What is being done, and how much of how much: bytes of a download, tensors of a load."""

    phase: Literal["download", "load"]
    done: int
    total: int


OnProgress: TypeAlias = Callable[[LoadEvent], None]


def ignore_progress(_: LoadEvent) -> None:
    """Tells nobody."""


def download_progress_bar(tell: OnProgress, *, here: int, total: int) -> type[Any]:
    """A bar for `snapshot_download` that tells of bytes; `here` of `total` lay on this machine before."""

    class Bar(tqdm):  # type: ignore[type-arg]  # it is over nothing
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._bytes = kwargs.get("unit") == "B"
            self._seen = here + int(kwargs.get("initial") or 0)
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            if self._bytes:
                self._seen += int(n or 0)
                tell(LoadEvent("download", min(self._seen, total), total))
            return None

    return Bar


@contextmanager
def report_weight_loading(tell: OnProgress) -> Iterator[None]:
    """Inside, what transformers reads of a checkpoint is told tensor by tensor. One thread at a time."""

    def watched(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if args else kwargs.get("iterable")
        if items is None or not hasattr(items, "__len__"):
            return factory(*args, **kwargs)
        return _counted(items, tell)

    before = logging.set_tqdm_hook(watched)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


def _counted(items: Any, tell: OnProgress) -> Iterator[Any]:
    for place, item in enumerate(items):
        tell(LoadEvent("load", place, len(items)))
        yield item
    tell(LoadEvent("load", len(items), len(items)))
