"""A scheduler whose sequences a test calls by one letter each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blip_space.callers import UNKNOWN, Caller
from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.plan import Plan
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.scheduler import Scheduler
from blip_space.engine.sequence import Sequence
from blip_space.models.preparation import Prompt
from blip_space.options import GenerationOptions
from tests.engine.fake_model import spec

CONFIG = EngineConfig(max_batch_size=3, max_beam_groups=2, max_prefill_tokens=30, time_slice_tokens=8)


class NamedSequences:
    """A scheduler, and its sequences by name."""

    def __init__(self, *, max_rows: int = 99, max_positions: int = 99_999, **changes: Any) -> None:
        self.scheduler = Scheduler(replace(CONFIG, **changes), max_rows=max_rows, max_positions=max_positions)
        self._names: dict[Sequence, str] = {}

    def add(
        self,
        names: str,
        *,
        length: int = 10,
        background: bool = False,
        best: bool = False,
        new_tokens: int = 64,
        caller: Caller = UNKNOWN,
    ) -> list[Sequence]:
        """Queue a sequence for each letter, with a prompt of `length` uncached positions."""
        options = GenerationOptions(quality="best" if best else "stream", max_new_tokens=new_tokens)
        request = PreparedRequest(spec(), Prompt("", (), ()), (), options, background=background, caller=caller)
        sequences = [Sequence(ord(name), request, Detokenizer(lambda _: "")) for name in names]
        for name, sequence in zip(names, sequences, strict=True):
            self._names[sequence], sequence.uncached_tokens = name, length
            self.scheduler.add(sequence)
        return sequences

    def schedule(self, *, now: float = 0.0, admit: bool = True) -> Plan:
        return self.scheduler.schedule(now=now, admit=admit)

    def admitted(self) -> str:
        """The names of those that the next step admits."""
        return self.names_of(self.schedule().admitted)

    def names_of(self, sequences: list[Sequence]) -> str:
        return "".join(self._names[sequence] for sequence in sequences)
