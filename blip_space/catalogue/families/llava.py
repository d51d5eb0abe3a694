"""LLaVA-1.5: how its checkpoints are recognized, and the well-known ones on the hub.

Must not import torch or `loading`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from blip_space.catalogue.family import CheckpointSpec, FamilySpec, LanguageModelSpec, list_architectures

# Counted on models of the published configurations. A language model of width h, l layers and inner width i has
# l (4 h^2 + 3 h i) parameters in its linear layers, (2 l + 1) h in norms and 2 * 32,064 h in its embedding and its
# head. CLIP's ViT-L/14 at 336 pixels has 303,507,456, and the projector 1,024 h + h + h^2 + h.
CHECKPOINTS = (
    CheckpointSpec("llava-1.5-7b", "llava-hf/llava-1.5-7b-hf", "llama", "llava", 7_063_427_072, 6_476_005_376),
    CheckpointSpec("llava-1.5-13b", "llava-hf/llava-1.5-13b-hf", "llama", "llava", 13_351_494_656, 12_687_769_600),
)
CONVERTED = f"choose the converted {' or '.join(item.name for item in CHECKPOINTS)}"
RELATED = {
    "llava_llama": ("a LLaVA model in the format of its original code", CONVERTED),
    "llava_next": ("a LLaVA-NeXT model", "transformers' LlavaNextForConditionalGeneration supports it"),
}
PARTIAL = {"LlavaModel": "is a LLaVA model whose output layer was not saved"}
CLIP = "clip_vision_model"
DEFAULT_MAX_POSITIONS = 2048
"""The default of transformers for Llama's `max_position_embeddings`."""

ORIGINAL_FORMAT = re.compile(r"Llava\w+ForCausalLM")
"""Names of architectures in LLaVA's original code, https://github.com/haotian-liu/LLaVA."""


def _unsupported_reason(config: Mapping[str, Any], weights: Collection[str], own: Mapping[str, Any]) -> str:
    text, vision = ({} if config.get(part) is None else config[part] for part in ("text_config", "vision_config"))
    has_original_names = any(ORIGINAL_FORMAT.fullmatch(item) for item in list_architectures(config))
    if has_original_names or any(key.startswith("model.mm_projector.") for key in weights):
        return f"is in the format of LLaVA's original code, which is not supported; {CONVERTED}."
    if text.get("sliding_window") is not None:
        return (
            "has a language model with sliding-window attention (sliding_window), which is not supported; "
            f"choose one without, such as {CHECKPOINTS[0].name}."
        )
    if (rope := _rope_type(text)) == "longrope" or (rope == "dynamic" and _exceeds_trained_length(text, own)):
        return (
            f"has a language model whose position encoding depends on the longest sequence of a batch (RoPE of the "
            f"type {rope!r}), so answers would depend on other requests; choose one without, such as "
            f"{CHECKPOINTS[0].name}."
        )
    encoder = vision.get("model_type", CLIP) if isinstance(vision, Mapping) else CLIP
    if encoder != CLIP and "style" not in own:
        return (
            f"is a LLaVA model with the vision encoder {str(encoder)[:40]!r}, as in JoyCaption, whose prompts are not "
            f"supported; choose {CHECKPOINTS[0].name} or, if its prompts are LLaVA's, put a blip_space.json with "
            '{"style": "llava"} into its folder.'
        )
    return ""


def _rope_type(text: Mapping[str, Any]) -> str:
    """The type of RoPE scaling, by the keys of transformers 5 or of older versions; empty if there is none."""
    parameters = text.get("rope_parameters") or text.get("rope_scaling")
    rope_type = parameters.get("rope_type", parameters.get("type")) if isinstance(parameters, Mapping) else None
    return rope_type if isinstance(rope_type, str) else ""


def _exceeds_trained_length(text: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the window in `blip_space.json` is longer than the sequences that the language model was trained on."""
    window, trained = own.get("context_tokens"), text.get("max_position_embeddings", DEFAULT_MAX_POSITIONS)
    return isinstance(window, int) and isinstance(trained, int) and window > trained


FAMILY = FamilySpec(
    name="llava",
    noun="a LLaVA model",
    architecture="LlavaForConditionalGeneration",
    model_type="llava",
    language_models={"llama": LanguageModelSpec("llava", is_bounded_by_positions=True)},
    default_language_model="llama",
    prompt_styles={"llava": ("en",)},
    context_tokens=4096,
    weight_prefixes=("model.language_model", "model.vision_tower", "model.multi_modal_projector", "lm_head"),
    generator_prefix="lm_head.",
    quantizable_weights=re.compile(r"^model\.language_model\..*\.weight$"),
    unquantized_weights=re.compile("embed|norm"),
    checkpoints=CHECKPOINTS,
    # the names in the hub's checkpoints, and in those that transformers saves today
    renamed_weights=(
        (re.compile(r"^language_model\.lm_head\."), "lm_head."),
        (re.compile(r"^language_model\.(?:model\.)?"), "model.language_model."),
        (re.compile(r"^(?:model\.)?vision_tower\.(?:vision_model\.)?"), "model.vision_tower."),
        (re.compile(r"^multi_modal_projector\."), "model.multi_modal_projector."),
    ),
    partial_architectures=PARTIAL,
    related_model_types=RELATED,
    unsupported_reason=_unsupported_reason,
)
