"""Engines with fake models, built in the process of a `ProcessEngine`. What is here is pickled by its name.

Must not import torch at module level, as the real process does not either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.serving.threaded import ThreadedEngine


@dataclass(frozen=True)
class FakeBuild:
    """Builds a `ThreadedEngine` whose answers wait while the file `hold` exists.

    The words of a question do things: `die` ends the process, and `lose` the GPU. While the file `broken` exists, no
    process starts; if it says `lose`, the GPU fails while the model loads.
    """

    specs: Sequence[ModelSpec]
    config: EngineConfig
    folder: Path

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    @property
    def broken(self) -> Path:
        return self.folder / "broken"

    def __call__(self, on_device_lost: Callable[[], object]) -> ThreadedEngine:
        from tests.serving.fakes import FakeLoader, FileFlag, Gate

        text = self.broken.read_text() if self.broken.exists() else ""
        if text == "die":
            os._exit(3)
        loading = FakeLoader()
        loading.gate = Gate(FileFlag(self.hold))
        return ThreadedEngine(
            self.specs,
            config=self.config,
            load=_Loader(loading, fails=text == "lose"),
            load_preparation=loading.prepare,
            on_device_lost=on_device_lost,
        )


@dataclass(frozen=True)
class _Loader:
    loading: Any
    fails: bool

    def __call__(self, *values: Any) -> Any:
        from tests.lost_device import lose_device

        if self.fails:
            lose_device()
        model = self.loading(*values)
        answer = model.next

        def obey(words: Any, is_prompt: Any) -> Any:
            logits = answer(words, is_prompt)
            if model.generated_words[-1] == "die":
                os._exit(3)
            if model.generated_words[-1] == "lose":
                lose_device()
            return logits

        model.next = obey
        return model
