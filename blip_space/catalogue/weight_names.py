"""Names that wrappers put in front of a model's weights, and how they come off.

`DataParallel`, `torch.compile`, FSDP, activation checkpointing, trainers and peft save a model's weights under a name
of their own: `module.query_tokens`, `_orig_mod.module.query_tokens`. Depends on names only; reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from blip_space.catalogue.family import FamilySpec

# No layer of a family is called so, wherever in a name it stands. The longer ones end with the shorter ones.
WRAPPERS = ("_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module", "_orig_mod", "module")
_BEFORE = r"(?:^|(?<=\.))"
_WRAPPER = re.compile(rf"{_BEFORE}(?:{'|'.join(WRAPPERS)}|base_model\.model)\.")


class WeightNames:
    """The names of one checkpoint's weights; `prefix` is what stands in front of all of them beside the wrappers'."""

    def __init__(self, stored: Iterable[str], family: FamilySpec) -> None:
        self.stored = tuple(stored)
        self._family = family
        self.prefix = _common_prefix([_WRAPPER.sub("", name) for name in self.stored], family)

    def parameter_name(self, name: str) -> str:
        """The name that the model has for a stored tensor."""
        return self._family.parameter_name(_WRAPPER.sub("", name).removeprefix(self.prefix))

    @cached_property
    def key_mapping(self) -> dict[str, str]:
        """How wrappers and prefix come off, as transformers' `key_mapping`: regular expressions, each replaced at most
        once in a name. What a family's own names were before is known to transformers."""
        found: dict[str, str] = {}
        for wrapper in (*WRAPPERS, "base_model.model"):
            pattern = _BEFORE + re.escape(wrapper) + r"\."
            most = max((len(re.findall(pattern, name)) for name in self.stored), default=0)
            # a comment makes each of the same expressions a key of its own
            found |= {f"{pattern}(?#{number})": "" for number in range(most)}
        if self.prefix:
            found[f"^{re.escape(self.prefix)}"] = ""
        return found


def _common_prefix(names: list[str], family: FamilySpec) -> str:
    """What stands before the family's parts in every one of the names, whichever version wrote them."""
    parts = {name for part in family.weight_prefixes for name in (part, part.rpartition(".")[2])}
    pattern = rf"{_BEFORE}(?:{'|'.join(sorted(map(re.escape, parts)))})(?:\.|$)"
    match = re.search(pattern, min(names, key=len, default=""))
    prefix = match.string[: match.start()] if match else ""
    return prefix if prefix and all(name.startswith(prefix) for name in names) else ""
