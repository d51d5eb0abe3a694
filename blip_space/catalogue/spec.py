"""What is known about a model before it is loaded, and the specs of the well-known checkpoints on the hub.

Depends on the specs of families only; reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

from blip_space.catalogue import families
from blip_space.catalogue.family import FamilySpec, LanguageModelSpec
from blip_space.catalogue.ready_questions import ReadyQuestions

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4")
BYTES_PER_PARAMETER = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5 + 4 / 64}
"""Bytes per weight of the language model's linear layers. int4 is nf4, with a float32 scale for every 64 weights:
https://huggingface.co/docs/bitsandbytes."""

UNQUANTIZED_BYTES = {"int8": 2.0, "int4": 2.0}
"""Bytes per weight outside the language model's linear layers if these are quantized."""

PHOTO_ENCODER_BYTES = 20_200_000
"""EfficientNet-Lite0 in float32, as it computes in every precision, and its reports."""


@dataclass(frozen=True)
class ModelSpec:
    """One model: its name, source, family, languages and size.

    `source` is a hub repository, or a folder if `is_folder`. `language_model_type` is `text_config.model_type`.
    `parameters` counts all parameters, `quantized_parameters` those that int8 and int4 quantize. `context_tokens` is
    the size of the context window, which holds an image's positions, the prompt and, for decoder-only models, the new
    tokens. `download_gb` is the size of the weights on the hub, if known. `description` is a sentence for the page,
    `unknown_image_replies` are replies that report an image outside the model's training domain, and `load_error` is
    why the model cannot be loaded. `adapter` is the folder or repository of a LoRA adapter to apply. `photo_encoder` is
    whether a second image encoder in its folder recognizes photographs. `stored_precision`
    is int8 or int4 if the weights are stored in it, and `stored_bytes` is then their size; else it is empty, and the
    precision is chosen at load time. `server` is the base URL of the server that answers for a remote model, of which
    nothing is loaded here; else it is empty.
    """

    name: str
    source: str
    family: str
    language_model_type: str
    prompt_style: str
    parameters: int
    languages: tuple[str, ...]
    quantized_parameters: int = 0
    is_folder: bool = False
    revision: str | None = None
    context_tokens: int = 512
    download_gb: float | None = None
    description: str = ""
    unknown_image_replies: frozenset[str] = frozenset()
    load_error: str = ""
    adapter: str = ""
    photo_encoder: bool = False
    stored_precision: str = ""
    stored_bytes: int = 0
    server: str = ""
    ready_questions: Mapping[str, ReadyQuestions] = field(default_factory=dict, compare=False, repr=False)
    """By the language's code: questions that the model answers well, and what it knows; empty for most models."""

    @property
    def server_host(self) -> str:
        """The host of `server`, with its port if it has one; empty if the model is not remote."""
        return urlsplit(self.server).netloc

    @property
    def family_spec(self) -> FamilySpec:
        """The spec of the model's family."""
        return families.ALL[self.family]

    @property
    def language_model(self) -> LanguageModelSpec:
        """The spec of the model's type of language model."""
        return self.family_spec.language_models[self.language_model_type]

    @cached_property
    def decoder_only(self) -> bool:
        """Whether the new tokens share the prompt's context window."""
        return self.language_model.decoder_only

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which the model can compute; only `stored_precision` if it is stored in 8 or 4 bits, and
        none if it is remote."""
        if self.server:
            return ()
        if self.stored_precision:
            return (self.stored_precision,)
        return tuple(name for name in PRECISIONS if name != "fp16" or not self.language_model.overflows_in_fp16)

    @property
    def memory_gb(self) -> dict[str, float]:
        """The size of the weights by precision, in 10^9 bytes, to three significant digits."""
        return {name: float(f"{self._bytes(name) / 1e9:.3g}") for name in self.precisions}

    def _bytes(self, precision: str) -> float:
        if self.stored_precision:
            return self.stored_bytes
        quantized = BYTES_PER_PARAMETER[precision]
        others = UNQUANTIZED_BYTES.get(precision, quantized)
        rest = PHOTO_ENCODER_BYTES if self.photo_encoder else 0
        return self.quantized_parameters * quantized + (self.parameters - self.quantized_parameters) * others + rest


MODELS: dict[str, ModelSpec] = {
    checkpoint.name: ModelSpec(
        **vars(checkpoint),
        family=family.name,
        languages=family.prompt_styles[checkpoint.prompt_style],
        context_tokens=family.context_tokens,
    )
    for family in families.ALL.values()
    for checkpoint in family.checkpoints
}
"""The hub's well-known checkpoints by name, without the embedded model, whose spec is read from its folder."""
