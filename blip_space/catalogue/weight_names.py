"""Removes the prefixes that wrappers add to the names of a model's weights.

`DataParallel`, `torch.compile`, FSDP, activation checkpointing, trainers and peft save weights under names such as
`module.query_tokens` or `_orig_mod.module.query_tokens`. Depends on names only; reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from blip_space.catalogue.family import FamilySpec

# No layer of a family has one of these names. A name may end with a shorter one, so longer names come first.
WRAPPERS = ("_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module", "_orig_mod", "module")
_BEFORE = r"(?:^|(?<=\.))"
_WRAPPER = re.compile(rf"{_BEFORE}(?:{'|'.join(WRAPPERS)}|base_model\.model)\.")


class WeightNames:
    """The names of one checkpoint's weights. `prefix` is their common prefix after wrappers are removed."""

    def __init__(self, stored: Iterable[str], family: FamilySpec) -> None:
        self.stored = tuple(stored)
        self._family = family
        self.prefix = _common_prefix([_WRAPPER.sub("", name) for name in self.stored], family)

    def parameter_name(self, name: str) -> str:
        """The name in memory of a stored tensor."""
        return self._family.parameter_name(_WRAPPER.sub("", name).removeprefix(self.prefix))

    @cached_property
    def key_mapping(self) -> dict[str, str]:
        """The `key_mapping` for transformers that removes wrappers and prefix: regular expressions, each replaced at
        most once in a name. transformers itself renames weights that its older versions saved."""
        mapping: dict[str, str] = {}
        for wrapper in (*WRAPPERS, "base_model.model"):
            pattern = _BEFORE + re.escape(wrapper) + r"\."
            max_occurrences = max((len(re.findall(pattern, name)) for name in self.stored), default=0)
            # a comment makes each repetition of the expression a distinct key
            mapping |= {f"{pattern}(?#{number})": "" for number in range(max_occurrences)}
        if self.prefix:
            mapping[f"^{re.escape(self.prefix)}"] = ""
        return mapping


def _common_prefix(names: list[str], family: FamilySpec) -> str:
    """The text that all names have before one of the family's own prefixes; empty if not all have the same."""
    parts = {name for part in family.weight_prefixes for name in (part, part.rpartition(".")[2])}
    pattern = rf"{_BEFORE}(?:{'|'.join(sorted(map(re.escape, parts)))})(?:\.|$)"
    match = re.search(pattern, min(names, key=len, default=""))
    prefix = match.string[: match.start()] if match else ""
    return prefix if prefix and all(name.startswith(prefix) for name in names) else ""
