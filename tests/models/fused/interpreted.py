"""Triton's interpreter, in a process that was started with `TRITON_INTERPRET=1`."""

from __future__ import annotations

from typing import Any

from triton.runtime import interpreter


def allow_loops_to_a_loaded_number() -> None:
    """From NumPy 2.4 on an array of one number is no index, which Triton 3.6 takes for one where a loop ends at a
    number that was loaded."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
