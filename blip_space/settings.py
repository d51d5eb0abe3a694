"""What the owner of a server chose: the command line over the environment over the defaults.

The one place that reads or writes `os.environ`. Knows names, not what is behind them: whether a model exists is the
catalogue's to say.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from blip_space.errors import UserError, quote

log = logging.getLogger(__name__)

DEFAULT_PORT = 7860
DEFAULT_ROWS, MOST_ROWS = 16, 1024
MOST_PORT = 65_535
MOST_REPLICAS = 1024
MOST_DIGITS = 20

PORT_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://\S+", re.IGNORECASE)
"""What Kubernetes, and Docker's links, write into `NAME_PORT` of every container beside a service called `name`:
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""


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


@dataclass(frozen=True)
class _Choice:
    """What was chosen for a setting, and how whoever chose it calls it: an option, or a variable."""

    text: str
    origin: str

    def number(self, most: int) -> int:
        """The text as a whole number from 1; `UserError` where it is none."""
        number = _number(self.text, most)
        if number is None:
            raise UserError(f"{self.origin} is {quote(self.text)}; it must be a whole number from 1 to {most}.")
        return number


def read(arguments: Mapping[str, str | int | None] | None = None) -> Settings:
    """The settings of this process; an argument that is None was not given.

    `arguments` names what the command needs: a number that it does not name is left at its default, so that a bad port
    in the environment ends no command but the one that listens. Without arguments everything is read. Raises
    `UserError`, which names the option or the variable, for a number that is none.
    """
    given = dict.fromkeys(field.name for field in fields(Settings)) if arguments is None else dict(arguments)

    def chosen(name: str) -> _Choice | None:
        return _given(name, given) or _from_environment(f"BLIP_SPACE_{name.upper()}")

    def text(name: str, default: str) -> str:
        found = chosen(name)
        if found and default and not found.text:
            raise UserError(f"{found.origin} is empty. Name one, or leave the option out.")
        return found.text if found else default

    def number(name: str, default: int, most: int) -> int:
        found = chosen(name) if name in given else None
        return found.number(most) if found else default

    model = text("model", Settings.model)
    listed = [part.strip() for part in text("models", model).split(",") if part.strip()]
    host = _from_environment("GRADIO_SERVER_NAME")
    return Settings(
        model=model,
        precision=text("precision", Settings.precision),
        host=text("host", host.text if host else Settings.host),
        port=_port(given) if "port" in given else DEFAULT_PORT,
        models=tuple(dict.fromkeys([model, *listed])),
        adapter=text("adapter", ""),
        rows=number("rows", DEFAULT_ROWS, MOST_ROWS),
        ray=text("ray", ""),
        replicas=number("replicas", Settings.replicas, MOST_REPLICAS),
    )


def fixed_slots() -> bool | None:
    """Whether answers are decoded in fixed slots; None where the device decides. It has no option: it is for those who
    compare the two ways. `UserError` where it is neither 0 nor 1."""
    found = _from_environment("BLIP_SPACE_SLOTS")
    if found and found.text not in ("0", "1"):
        raise UserError(f"{found.origin} is {quote(found.text)}; it must be 0 or 1.")
    return found.text == "1" if found else None


def with_origin(sentence: str, arguments: Mapping[str, Any]) -> str:
    """The sentence with the variable that set what it is about, where that was no option."""
    for name in ("model", "models", "precision", "adapter", "host"):
        variable = f"BLIP_SPACE_{name.upper()}"
        if arguments.get(name) is None and (found := _from_environment(variable)):
            parts = {part.strip() for part in found.text.split(",")} - {""}
            if any(repr(told) in sentence for part in parts for told in (part, Path(part).name)):
                return f"{sentence} That comes from {variable}."
    return sentence


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


def hide_port_from_gradio() -> None:
    """Take away a `GRADIO_SERVER_PORT` that is no number, since Gradio cannot even be imported with one.

    Call it after `read`, which has looked at it, and before the import. Gradio is told its port when it is launched.
    """
    if _number(os.environ.get("GRADIO_SERVER_PORT", "").strip(), MOST_PORT) is None:
        os.environ.pop("GRADIO_SERVER_PORT", None)


def _port(given: Mapping[str, str | int | None]) -> int:
    """By option, by our variable, by Gradio's, or as hosts such as Cloud Run, Heroku and Render hand it over."""
    if found := _given("port", given):
        return found.number(MOST_PORT)
    for name in ("BLIP_SPACE_PORT", "GRADIO_SERVER_PORT"):
        found = _from_environment(name)
        if found and PORT_OF_A_SERVICE.fullmatch(found.text):
            log.warning("%s", _passed_over(found))
        elif found:
            return found.number(MOST_PORT)
    host_port = _from_environment("PORT")  # anybody's variable, so what is no number may mean something else
    return (_number(host_port.text, MOST_PORT) if host_port else None) or DEFAULT_PORT


def _passed_over(port: _Choice) -> str:
    service = port.origin.removesuffix("_PORT").lower().replace("_", "-")
    return (
        f"{port.origin} is {quote(port.text)} and is passed over: Kubernetes sets it where there is a service called "
        f"{service!r}. To choose a port by it, set enableServiceLinks: false for the pod or rename the service."
    )


def _given(name: str, given: Mapping[str, str | int | None]) -> _Choice | None:
    value = given.get(name)
    return None if value is None else _Choice(str(value).strip(), f"--{name}")


def _from_environment(name: str) -> _Choice | None:
    """A variable of white space is one that was not set."""
    text = os.environ.get(name, "").strip()
    return _Choice(text, name) if text else None


def _number(text: str, most: int) -> int | None:
    """The whole number from 1 that the text is; None where it is none."""
    is_plain = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if is_plain and 0 < int(text) <= most else None
