"""The checkpoints on the hub that people ask for by name.

Figures: the checkpoints' model cards and configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

from blip_space.catalogue.spec import ENGLISH, MBLIP_LANGUAGES, Family, ModelSpec, Style


@dataclass(frozen=True)
class _Size:
    """All parameters, and those of the language model's linear layers without heads and T5's `wo`.

    Counted on the published configurations; https://huggingface.co/Gregor/mblip-mt0-xl holds 19.34 GB of fp32.
    """

    parameters: int
    quantised: int


_SIZES = {
    "opt-2.7b": _Size(3_744_761_856, 2_516_582_400),
    "opt-6.7b": _Size(7_752_869_376, 6_442_450_944),
    "flan-t5-xl": _Size(3_942_446_592, 2_214_592_512),
    "flan-t5-xxl": _Size(12_229_596_672, 8_858_370_048),
    "mt0-xl": _Size(4_835_309_056, 2_214_592_512),
    "bloomz-7b": _Size(8_163_280_384, 6_039_797_760),
}


def _row(owner: str, name: str, family: Family, style: Style, *, download_gb: float | None = None) -> ModelSpec:
    size = _SIZES[name.split("-", 1)[1].removesuffix("-coco")]
    languages = MBLIP_LANGUAGES if style == "mblip" else ENGLISH
    return ModelSpec(
        name,
        f"{owner}/{name}",
        family,
        style,
        size.parameters,
        languages,
        quantised=size.quantised,
        download_gb=download_gb,
    )


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _row("Salesforce", "blip2-opt-2.7b", "opt", "blip2"),
        _row("Salesforce", "blip2-opt-6.7b", "opt", "blip2"),
        _row("Salesforce", "blip2-flan-t5-xl", "t5", "blip2"),
        _row("Salesforce", "blip2-flan-t5-xxl", "t5", "blip2"),
        _row("Salesforce", "blip2-opt-2.7b-coco", "opt", "blip2-coco"),
        _row("Salesforce", "blip2-opt-6.7b-coco", "opt", "blip2-coco"),
        _row("Salesforce", "blip2-flan-t5-xl-coco", "t5", "blip2-coco"),
        _row("Gregor", "mblip-mt0-xl", "mt5", "mblip", download_gb=19.34),
        _row("Gregor", "mblip-bloomz-7b", "bloom", "mblip"),
    )
}
"""By name. The embedded model is a folder and is read from it."""
