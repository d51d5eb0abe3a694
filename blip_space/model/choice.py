"""Which token comes next: the likeliest, or one drawn from the nucleus.

Knows options and logits; knows nothing of models or text. The rules are transformers' own logits processors, so that
an answer is the one that `generate` would give.
"""

from __future__ import annotations

import torch
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from blip_space.options import GenerationOptions


class Choice:
    """Chooses one answer's tokens, one after another.

    The first token is never one of `stop`, so no answer is empty. The repetition penalty counts the answer's own
    tokens, not the prompt's: a question's words may stand in its answer. Draws depend on `options.seed` alone.
    """

    def __init__(
        self, options: GenerationOptions, *, start: list[int], stop: frozenset[int], device: torch.device
    ) -> None:
        self._ids = torch.tensor([start], dtype=torch.long, device=device)
        self._is_plain = options.temperature == 0 and options.repetition_penalty == 1.0
        self._begun = False
        self._rules = _rules(options, started=len(start), stop=sorted(stop), device=device)
        self._sampler: torch.Generator | None = None
        if options.temperature > 0:
            self._sampler = torch.Generator(device=device).manual_seed(options.seed)

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, *, likeliest: int) -> int:
        """The next token after those already chosen, from float32 logits of shape (1, vocabulary), of which `likeliest`
        is the place of the highest."""
        if self._is_plain and self._begun:  # the one rule left, against stopping at once, is for the first token
            return likeliest
        self._begun = True
        scores = self._rules(self._ids, logits)
        if self._sampler is None:
            token = scores.argmax(dim=-1, keepdim=True)
        else:
            token = torch.multinomial(scores.softmax(dim=-1), 1, generator=self._sampler)
        self._ids = torch.cat([self._ids, token], dim=1)
        return int(token)


def _rules(options: GenerationOptions, *, started: int, stop: list[int], device: torch.device) -> LogitsProcessorList:
    """In the order in which `generate` applies them."""
    rules = LogitsProcessorList()
    if options.repetition_penalty != 1.0:
        rules.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if stop:
        rules.append(MinNewTokensLengthLogitsProcessor(started, 1, stop, device=device))
    if options.temperature > 0:
        rules.append(TemperatureLogitsWarper(float(options.temperature)))
        if options.top_p < 1.0:
            rules.append(TopPLogitsWarper(float(options.top_p)))
    return rules
