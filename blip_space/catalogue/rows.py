"""The checkpoints on the hub that people ask for by name: those of every family's row."""

from __future__ import annotations

from blip_space.catalogue import families
from blip_space.catalogue.family import CheckpointSpec, FamilySpec
from blip_space.catalogue.spec import ModelSpec


def _spec(family: FamilySpec, row: CheckpointSpec) -> ModelSpec:
    return ModelSpec(
        row.name,
        row.source,
        family.name,
        row.language_model_type,
        row.prompt_style,
        row.parameters,
        family.prompt_styles[row.prompt_style],
        quantized_parameters=row.quantized_parameters,
        context_tokens=family.context_tokens,
        download_gb=row.download_gb,
    )


MODELS: dict[str, ModelSpec] = {
    row.name: _spec(family, row) for family in families.ALL.values() for row in family.checkpoints
}
"""By name. The embedded model is a folder and is read from it."""
