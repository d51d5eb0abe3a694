"""Remote models: those that another server computes, which speaks OpenAI's protocol.

Only the operator names an address, by an option or the environment. Depends on specs only; connects to nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

from blip_space.catalogue.spec import ModelSpec
from blip_space.errors import ModelError, quote
from blip_space.languages import LANGUAGES

PREFIX = "openai:"
FAMILY = "openai"
"""The family in `/models`; it has no modules, since nothing of it is loaded."""

PRECISION = "remote"
"""What records and `/healthz` name as the precision of a remote model."""

ASSUMED_CONTEXT_TOKENS = 4096
"""The context window of a model whose server does not report one."""

NAME = re.compile(r"[\w./~][\w./:@+~ -]{0,299}")
"""Also a folder, which vLLM and others use as the name of a model that they load from there."""
FORM = "Name it as in openai:http://127.0.0.1:8000/v1#llava, with the server's name of the model after #."


def is_remote(name: str) -> bool:
    """Whether an operator's name of a model has the form of a remote one."""
    return name.strip().lower().startswith(PREFIX)


def read_remote(name: str) -> ModelSpec:
    """The spec of the model `openai:URL#NAME`. Raises `ModelError` if the name has another form.

    The URL's host is shown to users, so a password in it is refused.
    """
    address, _, model = name.strip()[len(PREFIX) :].partition("#")
    url, model = _check_url(address.strip()), model.strip()
    if not NAME.fullmatch(model):
        raise ModelError(f"The remote model {quote(name, 80)} has no usable name after #. {FORM}")
    return ModelSpec(
        *(model, f"{PREFIX}{url}#{model}", FAMILY, PRECISION, FAMILY, 0, tuple(LANGUAGES)),
        context_tokens=ASSUMED_CONTEXT_TOKENS,
        description=f"Answers come from the server {urlsplit(url).netloc}.",
        server=url,
    )


def with_adapter(spec: ModelSpec, adapter: str) -> ModelSpec:
    """The spec with an adapter, unless that is empty. Raises `ModelError` for a remote model, which takes none."""
    if adapter and spec.server:
        raise ModelError(f"{spec.name} is computed by {spec.server_host}, so it takes no --adapter. Leave it out.")
    return replace(spec, adapter=adapter)


def check_options(spec: ModelSpec, precision: str, device: str) -> None:
    """Raise `ModelError` for a precision or a device of a remote model, since its server has chosen them."""
    for option, value in (("precision", precision), ("device", device)):
        if spec.server and value not in ("auto", PRECISION):
            raise ModelError(
                f"{spec.name} is computed by {spec.server_host}, which chooses its {option}. Leave --{option} out."
            )


def _check_url(address: str) -> str:
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_valid = False
    if not is_valid or re.search(r"[\s?\\]", address):
        raise ModelError(f"{quote(address, 80)} is not the address of a server. {FORM}")
    if "@" in parts.netloc:
        raise ModelError(f"The address of {parts.hostname} has a password. Set BLIP_SPACE_OPENAI_KEY instead. {FORM}")
    return address.rstrip("/")
