"""The settings of a server: command-line options before environment variables before defaults.

This module, `switches` and `libraries`, which has the variables of other programs, are the only ones that read or
write `os.environ`. Must not import the catalogue, which checks whether a model exists.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from blip_space.errors import UserError, quote
from blip_space.settings.keys import KEYS, parse_keys
from blip_space.settings.libraries import (
    bypass_proxies,
    check_upload_folder,
    find_missing_proxy_package,
    hides_gpus,
    is_hugging_face_space,
    prepare_libraries,
    upload_folder,
)
from blip_space.settings.proxies import Network, parse_root_path, parse_trusted_proxies
from blip_space.settings.switches import (
    engine_process,
    fixed_slots,
    from_environment,
    fused_steps,
    openai_key,
    parse_switch,
    photo_encoder,
    step_graphs,
)
from blip_space.settings.values import Value, parse_integer

__all__ = [
    "DEFAULT_PORT",
    "Settings",
    "bypass_proxies",
    "check_upload_folder",
    "engine_process",
    "find_missing_proxy_package",
    "fixed_slots",
    "fused_steps",
    "hide_port_from_gradio",
    "hides_gpus",
    "is_hugging_face_space",
    "openai_key",
    "photo_encoder",
    "prepare_libraries",
    "read",
    "step_graphs",
    "upload_folder",
    "with_origin",
]

log = logging.getLogger(__name__)

DEFAULT_PORT = 7860
MAX_ROWS = 1024
MAX_PORT = 65_535
MAX_REPLICAS = 1024
MAX_DRAIN_SECONDS = 3_600
MAX_REQUESTS = 100_000
LOG_FORMATS = ("text", "json")

GPU = re.compile(r"cuda:\d+")

KUBERNETES_SERVICE = re.compile(r"(tcp|udp|sctp)://\S+", re.IGNORECASE)
"""The value of `NAME_PORT`, which Kubernetes and Docker's links set in every container next to a service `name`:
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""


@dataclass(frozen=True)
class Settings:
    """One server. `models` are those that users may choose, `rows` is the maximum batch size, 0 to decide by the
    device, `adapter` the folder of the default model's adapter. `device` is one device, or several GPUs with commas
    between them. `ray` is the address of a Ray cluster, or empty for engines on this machine; `replicas` 0 is as many
    as the cluster has resources for. `root_path` is the path below which a proxy serves the page, such as "/blip", or
    empty; `drain` is how many seconds a stopping server lets running answers finish. `trusted_proxies` are the
    networks of the proxies whose `X-Forwarded-For` names a caller. `keys` are those of which every request needs one;
    without keys none is needed. A key, or without keys an address, may send `requests_per_minute` and have
    `answers_at_once`, or any number if 0. `log_format` is one of `LOG_FORMATS`; with `mcp` agents find
    tools."""

    model: str = "tiny"
    precision: str = "auto"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    models: tuple[str, ...] = ("tiny",)
    rows: int = 0
    adapter: str = ""
    ray: str = ""
    replicas: int = 0
    device: str = "auto"
    root_path: str = ""
    drain: int = 0
    trusted_proxies: tuple[Network, ...] = ()
    keys: tuple[str, ...] = field(default=(), repr=False)
    requests_per_minute: int = 0
    answers_at_once: int = 0
    log_format: str = "text"
    mcp: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        """The names in `device`: one, or several GPUs. Raises `UserError` for several names that are not all GPUs."""
        names = tuple(dict.fromkeys(part.strip() for part in self.device.split(",") if part.strip()))
        if len(names) > 1 and (other := next((name for name in names if not GPU.fullmatch(name)), None)):
            raise UserError(
                f"{quote(other)} cannot be one of several devices. Name a single one, or GPUs, as in cuda:0,cuda:1."
            )
        return names or (self.device,)


def read(arguments: Mapping[str, str | int | None] | None = None) -> Settings:
    """The settings of this process.

    `arguments` has the values of the command's options by name, None for an option that was not given. A number whose
    name is not in `arguments` keeps its default, so an invalid port in the environment stops only commands that listen.
    If `arguments` is None, every setting is read. Raises `UserError`, which names the option or the variable, for an
    invalid number.
    """
    options = dict.fromkeys(field.name for field in fields(Settings)) if arguments is None else dict(arguments)

    def find(name: str) -> Value | None:
        return _from_options(name, options) or from_environment(f"BLIP_SPACE_{name.upper()}")

    def text(name: str, default: str) -> str:
        value = find(name)
        if value and default and not value.text:
            raise UserError(f"{value.origin} is empty. Name one, or leave the option out.")
        return value.text if value else default

    def number(name: str, default: int, maximum: int, *, minimum: int = 1) -> int:
        value = find(name) if name in options else None
        return value.number(maximum, minimum=minimum) if value else default

    model = text("model", Settings.model)
    selectable = [part.strip() for part in text("models", model).split(",") if part.strip()]
    port, is_hosts_port = _port(options) if "port" in options else (DEFAULT_PORT, False)
    return Settings(
        model=model,
        precision=text("precision", Settings.precision),
        host=text("host", _default_host(is_hosts_port=is_hosts_port)),
        port=port,
        models=tuple(dict.fromkeys([model, *selectable])),
        adapter=text("adapter", ""),
        rows=number("rows", Settings.rows, MAX_ROWS),
        ray=text("ray", ""),
        replicas=number("replicas", Settings.replicas, MAX_REPLICAS),
        device=text("device", Settings.device),
        root_path=parse_root_path(find("root_path")),
        drain=number("drain", Settings.drain, MAX_DRAIN_SECONDS, minimum=0),
        trusted_proxies=parse_trusted_proxies(find("trusted_proxies")),
        keys=parse_keys(from_environment(KEYS)) if "keys" in options else (),
        requests_per_minute=number("requests_per_minute", 0, MAX_REQUESTS, minimum=0),
        answers_at_once=number("answers_at_once", 0, MAX_REQUESTS, minimum=0),
        log_format=_log_format(find("log_format")),
        mcp=parse_switch(find("mcp")) or False,
    )


def with_origin(sentence: str, arguments: Mapping[str, Any]) -> str:
    """The sentence, and the environment variable whose value it names, unless that was set by an option."""
    for name in ("model", "models", "precision", "device", "adapter", "host"):
        variable = f"BLIP_SPACE_{name.upper()}"
        if arguments.get(name) is None and (value := from_environment(variable)):
            parts = {part.strip() for part in value.text.split(",")} - {""}
            if any(repr(text) in sentence for part in parts for text in (part, Path(part).name)):
                return f"{sentence} That comes from {variable}."
    return sentence


def hide_port_from_gradio() -> None:
    """Remove `GRADIO_SERVER_PORT` from the environment if it is not a port, because importing Gradio would then fail.

    Call it after `read`, which uses the variable, and before importing Gradio. Gradio gets its port at launch.
    """
    if parse_integer(os.environ.get("GRADIO_SERVER_PORT", "").strip(), MAX_PORT) is None:
        os.environ.pop("GRADIO_SERVER_PORT", None)


def _port(options: Mapping[str, str | int | None]) -> tuple[int, bool]:
    """The port from the option, our variable, Gradio's, or `PORT` (set by Cloud Run, Heroku, Render), in this order;
    and whether it is from `PORT`."""
    if value := _from_options("port", options):
        return value.number(MAX_PORT), False
    for name in ("BLIP_SPACE_PORT", "GRADIO_SERVER_PORT"):
        value = from_environment(name)
        if value and KUBERNETES_SERVICE.fullmatch(value.text):
            log.warning(
                "%s is %s and is ignored: Kubernetes sets it if there is a service called %r. To choose a port by "
                "it, set enableServiceLinks: false for the pod or rename the service.",
                *(name, quote(value.text), name.removesuffix("_PORT").lower().replace("_", "-")),
            )
        elif value:
            return value.number(MAX_PORT), False
    host_port = from_environment("PORT")  # a common name, so anything but a number may mean something else
    number = parse_integer(host_port.text, MAX_PORT) if host_port else None
    return number or DEFAULT_PORT, number is not None


def _default_host(*, is_hosts_port: bool) -> str:
    """Gradio's variable, or this machine only; all addresses beside `PORT`, since hosts that set it connect from
    outside."""
    if value := from_environment("GRADIO_SERVER_NAME"):
        return value.text
    return "0.0.0.0" if is_hosts_port else Settings.host  # what such hosts need


def _log_format(value: Value | None) -> str:
    if value and value.text not in LOG_FORMATS:
        raise UserError(f"{value.origin} is {quote(value.text)}; it must be {' or '.join(LOG_FORMATS)}.")
    return value.text if value else Settings.log_format


def _from_options(name: str, options: Mapping[str, str | int | None]) -> Value | None:
    value = options.get(name)
    return None if value is None else Value(str(value).strip(), f"--{name.replace('_', '-')}")
