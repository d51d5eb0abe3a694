"""Fewer bits for the language model's layers, and for nothing else.

mBLIP's and BLIP-2's papers quantise the language model only; the Hugging Face cards say that it cannot be done. It can:
the parts that keep their 16 bits are named, which takes the place of the library's own list.
"""

from __future__ import annotations

from typing import Any

from transformers import BitsAndBytesConfig

from blip_space.model.precision import Precision

KEPT = ("vision_model", "qformer", "language_projection", "lm_head", "wo")
"""T5's `wo` is kept by transformers as well: its products are too large for int8."""

SHARING = 64


def quantisation(precision: Precision) -> Any:
    """What `from_pretrained` is told, or None where nothing is quantised."""
    if precision.name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(KEPT))
    if precision.name == "int4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=precision.dtype,
            llm_int8_skip_modules=list(KEPT),
        )
    return None


def settle(network: Any) -> None:
    """Keep bitsandbytes from packing, for processors with AVX512-BF16, layers that its packing cannot hold: those
    whose width is no multiple of the numbers that share a scale (0.50.2 raises in the first forward)."""
    for layer in network.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu") and layer.in_features % SHARING:
            layer.support_avx512bf16_for_cpu = False
