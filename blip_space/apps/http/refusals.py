"""How a request is refused over HTTP: a status, one sentence, and a code that programs can rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from blip_space.errors import Code

CODE_HEADER = "X-Error-Code"


@dataclass(frozen=True)
class Refusal:
    """An HTTP status, one of the codes of `errors`, the sentence for people, and further headers."""

    status: int
    code: Code
    sentence: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self, scope: Scope) -> Response:
        """The response to this request. Gradio's page shows the whole text of a refused upload, so that is plain."""
        headers = {CODE_HEADER: self.code, **self.headers}
        if is_upload(scope):
            return PlainTextResponse(self.sentence, self.status, headers)
        body = {"detail": self.sentence, "error": self.sentence, "code": self.code}
        return JSONResponse(body, self.status, headers)

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
