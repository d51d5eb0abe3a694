"""What the owner of a server chose: the command line over the environment over the defaults.

The one place that reads or writes `os.environ`. Knows names, not what is behind them: whether a model exists is the
catalogue's to say.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blip_space.errors import UserError

DEFAULT_PORT = 7860
DEFAULT_ROWS, MOST_ROWS = 16, 1024
MOST_REPLICAS = 1024


@dataclass(frozen=True)
class Settings:
    """One server: the model loaded first, its precision, where it listens, which models visitors may choose, how many
    answers are written at once, each of which needs memory of its own, the folder of the first model's adapter, and the
    Ray cluster whose replicas answer, none of which is one engine here; 0 are as many as it has room for."""

    model: str = "tiny"
    precision: str = "auto"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    models: tuple[str, ...] = ("tiny",)
    rows: int = DEFAULT_ROWS
    adapter: str = ""
    ray: str = ""
    replicas: int = 0


def read(arguments: Mapping[str, str | int | None] | None = None) -> Settings:
    """The settings of this process; an argument that is None was not given. `UserError` for a number that is none."""
    given = {name: value for name, value in (arguments or {}).items() if value is not None}

    def chosen(name: str, default: str) -> str:
        return str(given.get(name, os.environ.get(f"BLIP_SPACE_{name.upper()}") or default)).strip()

    model = chosen("model", Settings.model)
    listed = [part.strip() for part in chosen("models", model).split(",") if part.strip()]
    return Settings(
        model=model,
        precision=chosen("precision", Settings.precision),
        host=chosen("host", os.environ.get("GRADIO_SERVER_NAME") or Settings.host),
        port=_whole("port", chosen("port", os.environ.get("GRADIO_SERVER_PORT") or str(DEFAULT_PORT)), most=65_535),
        models=tuple(dict.fromkeys([model, *listed])),
        adapter=chosen("adapter", ""),
        rows=_whole("number of rows", chosen("rows", str(DEFAULT_ROWS)), most=MOST_ROWS),
        ray=chosen("ray", ""),
        replicas=_whole("number of replicas", count, most=MOST_REPLICAS) if (count := chosen("replicas", "")) else 0,
    )


def prepare_libraries() -> None:
    """Tell the libraries what they read from the environment; call it before they are imported.

    Nothing calls home, and uploads lie in a folder of this user's own. An owner's own choice stands.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    for name, value in {
        "GRADIO_ANALYTICS_ENABLED": "False",
        # even then Gradio keeps a table of past events, and builds it anew after each one
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
        "GRADIO_ANALYTICS_MAX_EVENTS": "1",
        "GRADIO_TEMP_DIR": str(Path(tempfile.gettempdir()) / f"blip-space-{user}"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        # a worker without a GPU sees none, as its share says, and no line says that this will change
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        os.environ.setdefault(name, value)


def _whole(name: str, text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise UserError(f"The {name} is {text[:20]!r}; it must be a whole number from 1 to {most}.")
    return int(text)
