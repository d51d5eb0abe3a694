"""The unfinished answers of a core, and what a step reports of each: new text, its end or its error.

Depends on sequences, and checks their text; must not import a model or a scheduler.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from blip_space.engine.answer_check import check_answer
from blip_space.engine.output import ANSWER_FAILED, Output
from blip_space.engine.sequence import FinishReason, Sequence, Status
from blip_space.engine.stop_tokens import StopTokens
from blip_space.errors import UserError

log = logging.getLogger(__name__)


class Answers:
    """The answers that are neither finished nor cancelled."""

    def __init__(self, stop_tokens: StopTokens, *, streams: bool) -> None:
        """A token in `stop_tokens` may end an answer by its text. Without `streams` only finished ones have text."""
        self._stop_tokens, self._streams = stop_tokens, streams
        self.unfinished: dict[int, Sequence] = {}
        """Their sequences by id."""

    def outputs(self, sequences: Iterable[Sequence]) -> list[Output]:
        """The outputs of sequences that ran: finished answers, errors and new text."""
        return [output for sequence in sequences if (output := self._output(sequence))]

    def fail(self, sequence: Sequence, error: Exception) -> Output:
        """End an answer with an error. One that is not for users is logged and hidden from them."""
        if not isinstance(error, UserError):
            log.error("a request failed", exc_info=error)
            error = UserError(ANSWER_FAILED, code="internal_error")
        sequence.fail(error.with_traceback(None))  # a traceback's frames would keep the request alive
        self.unfinished.pop(sequence.id, None)
        return Output(sequence.id, "", len(sequence.ids), finished=True, error=error)

    def _output(self, sequence: Sequence) -> Output | None:
        if sequence.id not in self.unfinished:
            return None
        try:
            if sequence.error is not None:
                raise sequence.error
            if sequence.status is Status.FINISHED:
                return self._finished(sequence, sequence.detokenizer.finish(sequence.ids))
            if sequence.beam_search is not None or len(sequence.ids) == sequence.published_tokens:
                return None
            if not self._streams and sequence.ids[-1] not in self._stop_tokens:
                return None
            sequence.published_tokens = len(sequence.ids)
            visible = sequence.detokenizer.extend(sequence.ids)
            if visible.stopped:
                sequence.finish(FinishReason.STOP)
                return self._finished(sequence, visible)
            # without streams, or restarted and still shorter
            if not self._streams or len(visible.text) < sequence.published_characters:
                return None
            sequence.published_characters = len(visible.text)
            return Output(sequence.id, visible.text, len(sequence.ids))
        except Exception as error:
            return self.fail(sequence, error)

    def _finished(self, sequence: Sequence, visible: Any) -> Output:
        answer = check_answer(visible, sequence.ids, sequence.request.options)
        self.unfinished.pop(sequence.id, None)
        return Output(sequence.id, answer.text, answer.tokens, finished=True, repeats=answer.repeats)
