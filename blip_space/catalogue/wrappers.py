"""Names that wrappers put in front of a model's weights, and how they come off.

`DataParallel`, `torch.compile`, FSDP, activation checkpointing, trainers and peft save a model's weights under a name
of their own: `module.query_tokens`, `_orig_mod.module.query_tokens`. Depends on names only; reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

PARTS = ("vision_model", "qformer", "language_projection", "language_model", "query_tokens")
"""What a BLIP-2 is made of: https://github.com/huggingface/transformers, `Blip2ForConditionalGeneration`."""

# No layer of a BLIP-2 is called so, wherever in a name it stands. The longer ones end with the shorter ones.
WRAPPERS = ("_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module", "_orig_mod", "module")
_BEFORE = r"(?:^|(?<=\.))"
_WRAPPER = re.compile(rf"{_BEFORE}(?:{'|'.join(WRAPPERS)}|base_model\.model)\.")
_PART = re.compile(rf"{_BEFORE}(?:{'|'.join(PARTS)})(?:\.|$)")


class Names:
    """The names of one checkpoint's weights; `prefix` is what stands in front of all of them beside the wrappers'."""

    def __init__(self, stored: Iterable[str]) -> None:
        self.stored = tuple(stored)
        self.prefix = _common_prefix([_WRAPPER.sub("", name) for name in self.stored])

    def plain(self, name: str) -> str:
        """The name that the model has for a stored tensor."""
        return _WRAPPER.sub("", name).removeprefix(self.prefix)

    @cached_property
    def mapping(self) -> dict[str, str]:
        """The same as regular expressions, each replaced at most once in a name, as transformers' `key_mapping`."""
        found: dict[str, str] = {}
        for wrapper in (*WRAPPERS, "base_model.model"):
            pattern = _BEFORE + re.escape(wrapper) + r"\."
            most = max((len(re.findall(pattern, name)) for name in self.stored), default=0)
            # a comment makes each of the same expressions a key of its own
            found |= {f"{pattern}(?#{number})": "" for number in range(most)}
        if self.prefix:
            found[f"^{re.escape(self.prefix)}"] = ""
        return found


def _common_prefix(names: list[str]) -> str:
    """What stands before the parts of a BLIP-2 in every one of the names."""
    first = next((name for name in names if name.endswith("query_tokens")), names[0] if names else "")
    match = _PART.search(first)
    prefix = first[: match.start()] if match else ""
    return prefix if prefix and all(name.startswith(prefix) for name in names) else ""
