"""What can be known of a model before a byte of it is loaded.

Depends on names, sizes and the rows of families; reads no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from blip_space.catalogue import families
from blip_space.catalogue.family import FamilySpec, LanguageModelSpec

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4")
BYTES_PER_PARAMETER = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5 + 4 / 64}
"""What a number of a language model's layers takes. int4 is nf4, which keeps a float32 scale for every 64 numbers:
https://huggingface.co/docs/bitsandbytes."""

UNQUANTIZED_BYTES = {"int8": 2.0, "int4": 2.0}
"""What every other number takes where only the language model's layers are quantised."""


@dataclass(frozen=True)
class ModelSpec:
    """One model: what it is called, where it comes from, what it speaks and how large it is.

    `source` is a hub repository, or a folder when `is_folder`. `family` names the row of its family, and
    `language_model_type` is what `text_config.model_type` says of its language model. `parameters` counts all parts,
    `quantised` the numbers of the language model's layers, which int8 and int4 make smaller. `context_tokens` holds an
    image's positions, the prompt and, for decoder-only models, the new tokens. `download_gb` is the size of the weights
    on the hub, where it is known. `knows` is a sentence for the page, `unknown` are the replies that say that the model
    does not know a picture, `fault` says why there is nothing to load. `adapter` is the folder, or the repository, of a
    LoRA adapter that an owner puts on it. `stored` is int8 or int4 where the checkpoint itself is stored so, and its
    weights then take `stored_bytes`; everywhere else it is empty, and the precision is chosen at load time.
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
    stored_precision: str = ""
    stored_bytes: int = 0

    @property
    def family_spec(self) -> FamilySpec:
        """What is known of its family."""
        return families.find(self.family)

    @property
    def language_model(self) -> LanguageModelSpec:
        """What is known of its type of language model."""
        return self.family_spec.language_models[self.language_model_type]

    @cached_property
    def decoder_only(self) -> bool:
        """Whether the new tokens stand in the same window as the prompt."""
        return self.language_model.decoder_only

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that its language model can compute in. A checkpoint that is stored in 8 or 4 bits has that one
        only."""
        if self.stored_precision:
            return (self.stored_precision,)
        return tuple(name for name in PRECISIONS if name != "fp16" or not self.language_model.overflows_in_fp16)

    @property
    def memory_gb(self) -> dict[str, float]:
        """The weights' size by precision, in 10^9 bytes, to three digits."""
        return {name: float(f"{self._bytes(name) / 1e9:.3g}") for name in self.precisions}

    def _bytes(self, precision: str) -> float:
        if self.stored_precision:
            return self.stored_bytes
        each = BYTES_PER_PARAMETER[precision]
        others = UNQUANTIZED_BYTES.get(precision, each)
        return self.quantized_parameters * each + (self.parameters - self.quantized_parameters) * others
