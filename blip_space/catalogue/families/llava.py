"""LLaVA-1.5: how its checkpoints are known, and those of the hub that people ask for by name.

Must not import torch, nor what loads a model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from blip_space.catalogue.family import CheckpointSpec, FamilySpec, LanguageModelSpec
from blip_space.catalogue.language_codes import ENGLISH

# Counted on a network of the published configurations. A language model of width h, l layers and inner width i has
# l (4 h^2 + 3 h i) numbers in its linear layers, and beside them (2 l + 1) h in norms and 2 * 32,064 h in its embedding
# and its head. CLIP's ViT-L/14 at 336 pixels has 303,507,456, and the projector 1,024 h + h + h^2 + h.
CHECKPOINTS = (
    CheckpointSpec("llava-1.5-7b", "llava-hf/llava-1.5-7b-hf", "llama", "llava", 7_063_427_072, 6_476_005_376),
    CheckpointSpec("llava-1.5-13b", "llava-hf/llava-1.5-13b-hf", "llama", "llava", 13_351_494_656, 12_687_769_600),
)
CONVERTED = f"choose the converted {' or '.join(row.name for row in CHECKPOINTS)}"
RELATED = {
    "llava_llama": ("a LLaVA in the form of its own program", CONVERTED),
    "llava_next": ("a LLaVA-NeXT", "transformers' LlavaNextForConditionalGeneration takes it"),
}
PARTIAL = {"LlavaModel": "is a LLaVA whose output layer was not saved"}
CLIP = "clip_vision_model"
TRAINED = 2048
"""What transformers takes for Llama's `max_position_embeddings` where none is named."""

OWN_FORMAT = re.compile(r"Llava\w+ForCausalLM")
"""What LLaVA's own program, https://github.com/haotian-liu/LLaVA, calls its architectures."""


def _refusal(config: Mapping[str, Any], weights: Collection[str], own: Mapping[str, Any]) -> str:
    text, vision = ({} if config.get(part) is None else config[part] for part in ("text_config", "vision_config"))
    if any(key.startswith("model.mm_projector.") for key in weights) or _is_of_own_format(config):
        return f"is in the form of LLaVA's own program, which is not read here; {CONVERTED}."
    if text.get("sliding_window") is not None:
        return (
            "has a language model that looks back over a window only (sliding_window), which is not computed here; "
            f"choose one without, such as {CHECKPOINTS[0].name}."
        )
    if (scaled := _scaling(text)) == "longrope" or (scaled == "dynamic" and _overflows(text, own)):
        return (
            f"has a language model that turns every position by the longest text beside it (RoPE of the type "
            f"{scaled!r}), so answers would depend on their neighbours; choose one without, such as "
            f"{CHECKPOINTS[0].name}."
        )
    encoder = vision.get("model_type", CLIP) if isinstance(vision, Mapping) else CLIP
    if encoder != CLIP and "style" not in own:
        return (
            f"is a LLaVA with the vision encoder {str(encoder)[:40]!r}, as JoyCaption is, whose prompts are not known "
            f"here; choose {CHECKPOINTS[0].name} or, where its prompts are LLaVA's, put a blip_space.json with "
            '{"style": "llava"} into its folder.'
        )
    return ""


def _scaling(text: Mapping[str, Any]) -> str:
    """How the language model scales its positions, under the names of transformers 5 and of those before."""
    named = text.get("rope_parameters") or text.get("rope_scaling")
    found = named.get("rope_type", named.get("type")) if isinstance(named, Mapping) else None
    return found if isinstance(found, str) else ""


def _overflows(text: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the window that a person gave is longer than what the language model was trained on."""
    window, trained = own.get("context_tokens"), text.get("max_position_embeddings", TRAINED)
    return isinstance(window, int) and isinstance(trained, int) and window > trained


def _is_of_own_format(config: Mapping[str, Any]) -> bool:
    named = config.get("architectures")
    return isinstance(named, list) and any(isinstance(item, str) and OWN_FORMAT.fullmatch(item) for item in named)


FAMILY = FamilySpec(
    name="llava",
    noun="a LLaVA",
    architecture="LlavaForConditionalGeneration",
    model_type="llava",
    language_models={"llama": LanguageModelSpec("llava")},
    default_language_model="llama",
    prompt_styles={"llava": ENGLISH},
    context_tokens=4096,
    is_bounded_by_positions=True,
    weight_prefixes=("model.language_model", "model.vision_tower", "model.multi_modal_projector", "lm_head"),
    generator_prefix="lm_head.",
    quantizable_weights=re.compile(r"^model\.language_model\..*\.weight$"),
    unquantized_weights=re.compile("embed|norm"),
    checkpoints=CHECKPOINTS,
    # the names that the hub's checkpoints have, and that transformers still writes
    renamed_weights=(
        (re.compile(r"^language_model\.lm_head\."), "lm_head."),
        (re.compile(r"^language_model\.(?:model\.)?"), "model.language_model."),
        (re.compile(r"^(?:model\.)?vision_tower\.(?:vision_model\.)?"), "model.vision_tower."),
        (re.compile(r"^multi_modal_projector\."), "model.multi_modal_projector."),
    ),
    partial_architectures=PARTIAL,
    related_model_types=RELATED,
    unsupported_reason=_refusal,
)
