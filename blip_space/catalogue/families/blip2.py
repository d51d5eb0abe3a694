"""BLIP-2 and mBLIP: how their checkpoints are recognized, and the well-known ones on the hub.

Source of the numbers: the checkpoints' model cards and configurations. Must not import torch or `loading`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from blip_space.catalogue.family import CheckpointSpec, FamilySpec, LanguageModelSpec
from blip_space.languages import LANGUAGES

SIZES = {
    "opt-2.7b": (3_744_761_856, 2_516_582_400),
    "opt-6.7b": (7_752_869_376, 6_442_450_944),
    "flan-t5-xl": (3_942_446_592, 2_214_592_512),
    "flan-t5-xxl": (12_229_596_672, 8_858_370_048),
    "mt0-xl": (4_835_309_056, 2_214_592_512),
    "bloomz-7b": (8_163_280_384, 6_039_797_760),
}
"""The number of all parameters, and of those in the language model's linear layers without heads and T5's `wo`.

Counted on the published configurations; https://huggingface.co/Gregor/mblip-mt0-xl holds 19.34 GB of fp32.
"""


def _checkpoint(owner: str, name: str, model_type: str, style: str, download_gb: float | None = None) -> CheckpointSpec:
    parameters, quantized = SIZES[name.split("-", 1)[1].removesuffix("-coco")]
    return CheckpointSpec(name, f"{owner}/{name}", model_type, style, parameters, quantized, download_gb)


CHECKPOINTS = (
    _checkpoint("Salesforce", "blip2-opt-2.7b", "opt", "blip2"),
    _checkpoint("Salesforce", "blip2-opt-6.7b", "opt", "blip2"),
    _checkpoint("Salesforce", "blip2-flan-t5-xl", "t5", "blip2"),
    _checkpoint("Salesforce", "blip2-flan-t5-xxl", "t5", "blip2"),
    _checkpoint("Salesforce", "blip2-opt-2.7b-coco", "opt", "blip2-coco"),
    _checkpoint("Salesforce", "blip2-opt-6.7b-coco", "opt", "blip2-coco"),
    _checkpoint("Salesforce", "blip2-flan-t5-xl-coco", "t5", "blip2-coco"),
    _checkpoint("Gregor", "mblip-mt0-xl", "mt5", "mblip", 19.34),
    _checkpoint("Gregor", "mblip-bloomz-7b", "bloom", "mblip"),
)
LAVIS_PARTS = ("visual_encoder.", "Qformer.", "opt_model.", "t5_model.", "opt_proj.", "t5_proj.", "ln_vision.")
CONVERTED = (
    "Salesforce publishes converted BLIP-2 checkpoints; choose one of "
    f"{', '.join(item.name for item in CHECKPOINTS if item.source.startswith('Salesforce/'))}."
)
PARTIAL = {
    "Blip2ForImageTextRetrieval": "scores how well images and texts match, and has no language model",
    "Blip2TextModelWithProjection": "embeds texts, and has no language model",
    "Blip2VisionModelWithProjection": "embeds images, and has no language model",
    "Blip2VisionModel": "is the vision encoder alone, without a language model",
    "Blip2QFormerModel": "is the Q-Former alone, without a language model",
    "Blip2Model": "is a BLIP-2 model whose language model was not saved",
}
RELATED = {
    "instructblip": ("an InstructBLIP model", "transformers' InstructBlipForConditionalGeneration supports it"),
    "instructblipvideo": (
        "an InstructBLIP model for videos",
        "transformers' InstructBlipVideoForConditionalGeneration supports it",
    ),
    "blip": ("a BLIP model of the first generation", "transformers' BlipForConditionalGeneration supports it"),
    "blip_text_model": ("a part of a BLIP model of the first generation", "transformers' BlipTextModel supports it"),
    "blip_2_vision_model": ("the vision encoder of a BLIP-2 model", "transformers' Blip2VisionModel supports it"),
    "blip_2_qformer": ("the Q-Former of a BLIP-2 model", "transformers' Blip2QFormerModel supports it"),
}


def _unsupported_reason(config: Mapping[str, Any], weights: Collection[str], own: Mapping[str, Any]) -> str:  # noqa: ARG001
    if any(key.startswith(LAVIS_PARTS) for key in weights):
        return f"has weights with the names of LAVIS, which are not supported. {CONVERTED}"
    return ""


FAMILY = FamilySpec(
    name="blip2",
    noun="a BLIP-2 model",
    takes_photo_encoder=True,
    architecture="Blip2ForConditionalGeneration",
    model_type="blip-2",
    language_models={
        "opt": LanguageModelSpec("blip2", is_bounded_by_positions=True),
        "t5": LanguageModelSpec("blip2", decoder_only=False, overflows_in_fp16=True),
        "mt5": LanguageModelSpec("mblip", decoder_only=False, overflows_in_fp16=True),
        "bloom": LanguageModelSpec("mblip", trained_in_bf16=True),
    },
    default_language_model="opt",
    prompt_styles={"blip2": ("en",), "blip2-coco": ("en",), "mblip": tuple(LANGUAGES)},
    context_tokens=512,
    # https://github.com/huggingface/transformers, `Blip2ForConditionalGeneration`
    weight_prefixes=("vision_model", "qformer", "language_projection", "language_model", "query_tokens"),
    generator_prefix="language_model.",
    quantizable_weights=re.compile(r"language_model\..*\.weight$"),
    unquantized_weights=re.compile(r"lm_head|embed|shared|norm|relative_attention_bias|\.wo\."),
    checkpoints=CHECKPOINTS,
    partial_architectures=PARTIAL,
    related_model_types=RELATED,
    pickle_alternative=CONVERTED,
    unsupported_reason=_unsupported_reason,
)
