"""The server's side of OpenAI's protocol, below `/v1`: its models, and chat completions about an image.

    routes         the routes, and what answers for all others below `/v1`
    completions    one chat completion, from its request to its last byte
    body           what a request may have, checked by pydantic
    conversation   messages become an image, earlier turns and a prompt
    reading        the text of an answer for the event loop
    forms          the objects of the protocol
    statuses       the HTTP status of each of our errors

The same engine, limits, keys and metrics as the page. Depends on `EngineProtocol`, Starlette and pydantic; must import
neither Gradio nor the package openai, which takes 50 MB.
"""

from __future__ import annotations

from blip_space.apps.openai_api.routes import NOT_ON_ZERO_GPU, routes

__all__ = ["NOT_ON_ZERO_GPU", "routes"]
