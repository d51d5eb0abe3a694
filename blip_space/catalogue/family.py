"""Specs of vision-language model families: what is known of their models before any of them is loaded.

Depends on names and numbers only; must not import a family, torch or `spec`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LanguageModelSpec:
    """One type of language model that a family supports, as `text_config.model_type` names it.

    `prompt_style` is the default of its folders. With `decoder_only` the new tokens share the prompt's context window.
    A model that `overflows_in_fp16` cannot compute in fp16; one that was `trained_in_bf16` may overflow.
    """

    prompt_style: str
    decoder_only: bool = True
    overflows_in_fp16: bool = False
    trained_in_bf16: bool = False


@dataclass(frozen=True)
class CheckpointSpec:
    """One checkpoint of the hub: its name here, its repository, its type of language model and its prompt style.

    `parameters` counts all parts, `quantized_parameters` those of the language model's linear layers that int8 and int4
    quantize. `download_gb` is the size of its weights on the hub, where known and not 2 bytes a parameter.
    """

    name: str
    source: str
    language_model_type: str
    prompt_style: str
    parameters: int
    quantized_parameters: int
    download_gb: float | None = None


@dataclass(frozen=True, eq=False)
class FamilySpec:
    """One family. `name` is that of its modules here and in `models.families`, `noun` names one of its models in a
    sentence, with an article.

    A folder belongs to the family whose `architecture` or else `model_type` its `config.json` names. Weights have the
    names of the model in memory; `renamed_weights` are patterns, with replacements, for stored names that differ.
    """

    name: str
    noun: str
    architecture: str
    model_type: str
    language_models: Mapping[str, LanguageModelSpec]
    default_language_model: str
    """The default of transformers where `text_config` names no type."""

    prompt_styles: Mapping[str, tuple[str, ...]]
    """Prompt styles, with the languages of the models that were trained with them."""

    context_tokens: int
    weight_prefixes: tuple[str, ...]
    """The beginnings of all names of weights."""

    generator_prefix: str
    """The beginning of a weight's name that only checkpoints which generate text have."""

    quantizable_weights: re.Pattern[str]
    """The weights of the language model that may be quantized, but for `unquantized_weights`."""

    unquantized_weights: re.Pattern[str]
    """Embeddings, norms, heads, and layers that overflow in int8: they keep 16 bits."""

    checkpoints: tuple[CheckpointSpec, ...]
    renamed_weights: tuple[tuple[re.Pattern[str], str], ...] = ()
    is_bounded_by_positions: bool = False
    """Whether `text_config.max_position_embeddings`, where smaller, replaces `context_tokens`."""

    partial_architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures of the same `model_type` that generate no text, with what they do instead."""

    related_model_types: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Model types that users may mistake for the family's: what each is, and what supports it."""

    pickle_alternative: str = ""
    """What to choose instead of the pickles that the family's authors publish."""

    unsupported_reason: Callable[[Mapping[str, Any], Collection[str], Mapping[str, Any]], str] = lambda *_: ""
    """From `config.json`, the names of the weights and `blip_space.json`: why an otherwise valid folder is not
    supported, as the predicate of a sentence about it; empty where it is supported."""

    def parameter_name(self, stored: str) -> str:
        """The name in memory of a stored weight, whichever version of transformers saved it."""
        for pattern, name in self.renamed_weights:
            stored = pattern.sub(name, stored, count=1)
        return stored


def list_architectures(config: Mapping[str, Any]) -> list[str]:
    """The valid entries of `architectures` in a `config.json`."""
    items = config.get("architectures")
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []
