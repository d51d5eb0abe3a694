"""Reports the progress of downloads and loads to a callback.

Depends on the progress bars of huggingface_hub and transformers, which it replaces; shows none.
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
    """The progress of one phase: bytes of a download, or tensors of a load."""

    phase: Literal["download", "load"]
    done: int
    total: int


OnProgress: TypeAlias = Callable[[LoadEvent], None]


def ignore_progress(_: LoadEvent) -> None:
    """The default callback, which does nothing."""


def download_progress_bar(on_progress: OnProgress, *, cached_bytes: int, total_bytes: int) -> type[Any]:
    """A progress bar class for `snapshot_download` that reports the bytes so far, cached ones included."""

    class Bar(tqdm):  # type: ignore[type-arg]  # the bar iterates over nothing
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            self._done = cached_bytes + int(kwargs.get("initial") or 0)
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts_bytes:
                self._done += int(n or 0)
                on_progress(LoadEvent("download", min(self._done, total_bytes), total_bytes))
            return None

    return Bar


@contextmanager
def report_weight_loading(on_progress: OnProgress) -> Iterator[None]:
    """Report every tensor that transformers loads in the context. Only one thread at a time may enter it."""

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if args else kwargs.get("iterable")
        if items is None or not hasattr(items, "__len__"):
            return factory(*args, **kwargs)
        return _report_items(items, on_progress)

    previous_hook = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous_hook)


def _report_items(items: Any, on_progress: OnProgress) -> Iterator[Any]:
    for index, item in enumerate(items):
        on_progress(LoadEvent("load", index, len(items)))
        yield item
    on_progress(LoadEvent("load", len(items), len(items)))
