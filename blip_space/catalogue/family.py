"""Specs of vision-language model families: what is known about their models before one is loaded.

Depends on names and numbers only; must not import a family, torch or `spec`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LanguageModelSpec:
    """One type of language model that a family supports.

    `prompt_style` is used for local folders that do not name another in `blip_space.json`. If `decoder_only`, the new
    tokens share the context window. If `overflows_in_fp16`, fp16 is refused; if `trained_in_bf16`, fp16 may overflow.
    If `is_bounded_by_positions`, `text_config.max_position_embeddings` replaces the family's `context_tokens` where it
    is smaller.
    """

    prompt_style: str
    decoder_only: bool = True
    overflows_in_fp16: bool = False
    trained_in_bf16: bool = False
    is_bounded_by_positions: bool = False


@dataclass(frozen=True)
class CheckpointSpec:
    """One checkpoint on the hub: its name in the catalogue and, as `source`, its repository.

    `parameters` counts all parameters, `quantized_parameters` those that int8 and int4 quantize,
    in the language model's linear layers. `download_gb` is the weights' size on the hub, if known and not 2 bytes each.
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
    """One family. `name` is also the name of its modules in `catalogue.families` and `models.families`; `noun` is the
    term for one of its models, with an article.

    A folder belongs to the family whose `architecture` or else `model_type` is in its `config.json`. Names of weights
    are those in memory; `renamed_weights` has patterns, with replacements, for stored names that differ from them.
    """

    name: str
    noun: str
    architecture: str
    model_type: str
    language_models: Mapping[str, LanguageModelSpec]
    default_language_model: str
    """The type that transformers assumes if `text_config` has no `model_type`."""

    prompt_styles: Mapping[str, tuple[str, ...]]
    """The family's prompt styles, each with the languages of the models that were trained with it."""

    context_tokens: int
    weight_prefixes: tuple[str, ...]
    """The prefixes with which all names of weights begin."""

    generator_prefix: str
    """A prefix of weights that only checkpoints that generate text have."""

    quantizable_weights: re.Pattern[str]
    """The weights of the language model that int8 and int4 quantize, except `unquantized_weights`."""

    unquantized_weights: re.Pattern[str]
    """Embeddings, norms, heads, and layers that overflow in int8. They are kept in 16 bits."""

    checkpoints: tuple[CheckpointSpec, ...]
    renamed_weights: tuple[tuple[re.Pattern[str], str], ...] = ()
    takes_photo_encoder: bool = False
    """Whether a folder may have a second image encoder, for photographs."""

    partial_architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures with the same `model_type` that generate no text; for each, what it does, as a predicate."""

    related_model_types: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Other model types that users may mistake for this family; for each, what it is and what supports it."""

    pickle_alternative: str = ""
    """A sentence on what to choose instead of the pickles that the family's authors publish."""

    unsupported_reason: Callable[[Mapping[str, Any], Collection[str], Mapping[str, Any]], str] = lambda *_: ""
    """Why an otherwise valid folder is not supported, as the predicate of a sentence; empty if it is supported. The
    arguments are the contents of `config.json`, the names of the weights, and the contents of `blip_space.json`."""

    def parameter_name(self, stored: str) -> str:
        """The name in memory of a weight with the name `stored`, by any version of transformers."""
        for pattern, name in self.renamed_weights:
            stored = pattern.sub(name, stored, count=1)
        return stored


def list_architectures(config: Mapping[str, Any]) -> list[str]:
    """The valid entries of `architectures` in a `config.json`."""
    items = config.get("architectures")
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []
