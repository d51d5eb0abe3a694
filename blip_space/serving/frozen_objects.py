"""Keeps Python's garbage collector from the objects of imported libraries, which never become garbage.

A collection of all objects stops every thread: with torch, transformers and Gradio imported it looks at 500,000,
which takes 0.3 s. `models.interface` lets it look at all again when a model is unloaded. For servers only: garbage of
that moment would stay in a user's own program. Must not import torch.
"""

from __future__ import annotations

import gc
import threading
import time

from blip_space.serving.protocol import EngineProtocol

POLL_SECONDS = 0.5


def freeze_when_loaded(engine: EngineProtocol) -> None:
    """In the background, wait until the engine has loaded its first model, and freeze what there is then."""
    threading.Thread(target=_freeze, args=(engine,), name="garbage", daemon=True).start()


def _freeze(engine: EngineProtocol) -> None:
    while engine.status().status == "loading":
        time.sleep(POLL_SECONDS)
    gc.collect()
    gc.freeze()
