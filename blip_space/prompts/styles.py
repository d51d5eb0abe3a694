"""The prompt templates that each family of models was trained with.

Sources: LAVIS for BLIP-2, mBLIP's evaluation (the prompts of its published results), and LLaVA. Must not import
anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptStyle:
    """The templates of one family. `{q}` is the user's text, `{L}` the language's prompt name.

    `chat_template` is a Jinja template with the variable `image_token`, for a family that was trained on conversations.
    It is used if a checkpoint has no chat template of its own.
    """

    caption: str
    question: str
    instruction: str
    stop_strings: tuple[str, ...] = ()
    multilingual: bool = False
    chat_template: str = ""


VICUNA = """\
{%- for message in messages %}
    {{- "USER: " if message.role == "user" else "ASSISTANT: " }}
    {%- for part in message.content %}
        {{- image_token + "\n" if part.type == "image" else part.text + " " }}
    {%- endfor %}
{%- endfor %}
{{- "ASSISTANT:" }}"""
"""LLaVA-1.5's chat template. Source: https://huggingface.co/llava-hf/llava-1.5-7b-hf."""

STYLES: dict[str, PromptStyle] = {
    "blip2": PromptStyle(
        caption="", question="Question: {q} Answer:", instruction="{q}", stop_strings=("\n", "Question:")
    ),
    "blip2-coco": PromptStyle(
        caption="a photo of", question="Question: {q} Answer:", instruction="{q}", stop_strings=("\n", "Question:")
    ),
    "mblip": PromptStyle(
        caption="Caption in {L}: ",
        question="Question: {q} Short answer in {L}:",
        instruction="{q} in {L}.",
        multilingual=True,
    ),
    # `caption` is one of the instructions for brief descriptions that LLaVA was trained on: Liu et al., Visual
    # Instruction Tuning (https://arxiv.org/abs/2304.08485), appendix, list of instructions for brief image description
    "llava": PromptStyle(
        caption="Provide a brief description of the given image.",
        question="{q}",
        instruction="{q}",
        stop_strings=("USER:",),
        chat_template=VICUNA,
    ),
}
