"""How a request is refused over HTTP: a status, one sentence, and a code that programs can rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from blip_space.errors import Code

CODE_HEADER = "X-Error-Code"

PROTOCOL = "/v1"
"""The path of the routes that speak OpenAI's protocol, in whose form they are refused."""

PROTOCOL_CODES: dict[Code, str] = {
    "prompt_too_long": "context_length_exceeded",
    "too_many_requests": "rate_limit_exceeded",
    "unauthorized": "invalid_api_key",
    "unknown_model": "model_not_found",
}
"""The protocol's names for codes of ours; the others keep theirs. The header has ours for all."""


@dataclass(frozen=True)
class Refusal:
    """An HTTP status, one of the codes of `errors`, the sentence for people, and further headers."""

    status: int
    code: Code
    sentence: str
    headers: Mapping[str, str] = field(default_factory=dict)
    parameter: str | None = None
    """The part of a request's body that is refused, in OpenAI's protocol."""

    def response(self, scope: Scope) -> Response:
        """The response to this request, in OpenAI's form at its routes. Gradio's page shows the whole text of a refused
        upload, so that is plain."""
        headers = {CODE_HEADER: self.code, **self.headers}
        if is_protocol(scope):
            return JSONResponse(self.protocol_error(), self.status, headers)
        if is_upload(scope):
            return PlainTextResponse(self.sentence, self.status, headers)
        body = {"detail": self.sentence, "error": self.sentence, "code": self.code}
        return JSONResponse(body, self.status, headers)

    def protocol_error(self) -> dict[str, Any]:
        """The body of the response in OpenAI's protocol, which is also an event of its streams."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {
            "message": self.sentence,
            "type": {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind),
            "param": self.parameter,
            "code": PROTOCOL_CODES.get(self.code, self.code),
        }
        return {"error": error}

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with this refusal."""
        await self.response(scope)(scope, receive, send)


def route_path(scope: Scope) -> str:
    """The path of a request below the path that a proxy serves this server at, without a final slash."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(f"{root}/"):
        path = path[len(root) :]
    return path.rstrip("/") or "/"


def is_upload(scope: Scope) -> bool:
    """Whether a request uploads files, which are stored while they arrive and have limits of their own."""
    return route_path(scope) == "/gradio_api/upload"


def is_protocol(scope: Scope) -> bool:
    """Whether a request is to a route of OpenAI's protocol, or below its path."""
    return f"{route_path(scope)}/".startswith(f"{PROTOCOL}/")
