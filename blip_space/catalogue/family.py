"""What the rows of a family say: facts of vision-language models that hold before a byte of one is loaded.

Depends on nothing but names and numbers; must not import a family, torch, or a model's row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


def nothing_else(config: Mapping[str, Any], weights: Collection[str], own: Mapping[str, Any]) -> str:  # noqa: ARG001
    """No further sentence about a folder; see `FamilySpec.unsupported_reason`."""
    return ""


@dataclass(frozen=True)
class LanguageModelSpec:
    """One type of language model that a family takes, as `text_config.model_type` names it.

    `style` is the prompt style of a folder that names none. `decoder_only` says that the new tokens stand in the same
    window as the prompt, `overflows_in_fp16` that it cannot compute in fp16, and `trained_in_bf16` that it may not.
    """

    prompt_style: str
    decoder_only: bool = True
    overflows_in_fp16: bool = False
    trained_in_bf16: bool = False


@dataclass(frozen=True)
class CheckpointSpec:
    """One checkpoint of the hub: what it is called here, its repository, its language model and its prompt style.

    `parameters` counts all parts, `quantised` the numbers of the language model's linear layers that int8 and int4 make
    smaller. `download_gb` is the size of its weights on the hub where that is not 2 bytes a parameter, and is known.
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
    """One family; `name` is that of its modules here and in `models.families`, `noun` what a person calls one of it.

    A folder is of the family whose `architecture` its `config.json` names, or else whose `model_type`. Names of weights
    and of their parts are those of the network in memory; `renamed` holds expressions, with their replacement, for
    stored names that differ from them.
    """

    name: str
    noun: str
    architecture: str
    model_type: str
    language_models: Mapping[str, LanguageModelSpec]
    default_language_model: str
    """What transformers takes where `text_config` names no type."""

    prompt_styles: Mapping[str, tuple[str, ...]]
    """Prompt styles, with the languages of the models that were taught so."""

    context_tokens: int
    weight_prefixes: tuple[str, ...]
    """What the names of all weights begin with."""

    generator_prefix: str
    """What the name of a weight begins with that only a checkpoint has that writes text."""

    quantizable_weights: re.Pattern[str]
    """The weights of the language model among which the quantised ones are."""

    unquantized_weights: re.Pattern[str]
    """Those of them that keep their 16 bits: embeddings, norms, heads, and what overflows in 8."""

    checkpoints: tuple[CheckpointSpec, ...]
    renamed_weights: tuple[tuple[re.Pattern[str], str], ...] = ()
    is_bounded_by_positions: bool = False
    """Whether `text_config.max_position_embeddings` is the window where it is the smaller number."""

    partial_architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures of the same `model_type` that write no text, with what they do instead."""

    related_model_types: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Other model types that a person may take for the family's: what each is, and what takes it."""

    pickle_alternative: str = ""
    """What to choose where the family's authors publish pickles."""

    unsupported_reason: Callable[[Mapping[str, Any], Collection[str], Mapping[str, Any]], str] = nothing_else
    """From `config.json`, the names of the weights and `blip_space.json`: why a folder is not read though all else is
    right, as a sentence's end after the model's name; empty where it is read."""

    def parameter_name(self, stored: str) -> str:
        """The name that the network has for a stored weight, whichever version of transformers wrote it."""
        for pattern, name in self.renamed_weights:
            stored = pattern.sub(name, stored, count=1)
        return stored
