"""The models that users may choose, by name.

Depends on model specs only; must not import anything that loads a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import check_language
from blip_space.errors import ModelError, quote


class OfferedModels:
    """The models of one server, by name; the first is the default. Shared by every implementation of the protocol."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.default = specs[0]

    def find(self, model: str) -> ModelSpec:
        """The spec of the model of this name or hub repository, in upper or lower case; the default if `model` is
        empty. Raises `ModelError` if there is none."""
        spec = self.specs.get(model or self.default.name) or self._by_other_name(model)
        if spec is None:
            sentence = f"There is no model {quote(model, 80)} here. Choose among {', '.join(self.specs)}."
            raise ModelError(sentence, code="unknown_model")
        return spec

    def resolve(self, model: str, language: str) -> ModelSpec:
        """Like `find`, and raises `UserError` if the model has a load error or does not support the language."""
        spec = self.find(model)
        if spec.load_error:
            raise ModelError(spec.load_error)
        check_language(spec, language)
        return spec

    def _by_other_name(self, model: str) -> ModelSpec | None:
        model = model.strip().lower()
        names = ((spec, {spec.name, "" if spec.is_folder else spec.source}) for spec in self.specs.values())
        return next((spec for spec, own in names if model in {name.lower() for name in own if name}), None)
