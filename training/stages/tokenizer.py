"""The run's tokenizer: trained once, or taken from the initial model and extended by the words that it lacks."""

from __future__ import annotations

import time
from typing import Any

from tokenizers import Tokenizer

from training.model.extension import extended_tokenizer
from training.model.tokenizer import train_tokenizer, wrap_tokenizer
from training.model.vocabulary import word_meanings
from training.stages import checkpoints
from training.stages.loop import TrainingContext


def load_tokenizer(context: TrainingContext) -> Any:
    """The run's tokenizer; the first call makes and saves it."""
    state = checkpoints.load_checkpoint(context.checkpoint_path("tokenizer"))
    if not state:
        started = time.monotonic()
        state = {"json": _tokenizer_json(context), "seconds": time.monotonic() - started}
        checkpoints.save_checkpoint(context.checkpoint_path("tokenizer"), state)
    return wrap_tokenizer(Tokenizer.from_str(state["json"]))


def _tokenizer_json(context: TrainingContext) -> str:
    if context.initial_model:
        trained = (context.initial_model / "tokenizer.json").read_text(encoding="utf-8")
        return extended_tokenizer(trained, word_meanings(context.sources))
    tokenizer = train_tokenizer(context.recipe, context.lexicons(), word_meanings(context.sources))
    return str(tokenizer.backend_tokenizer.to_str())
