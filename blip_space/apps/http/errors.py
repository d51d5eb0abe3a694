"""Turns every failed response into one sentence of ours with a code, whatever part of Gradio or Starlette wrote it.

A route that raises, or that answers with a status from 400, says what its library has to say: `Internal Server Error`,
a list of pydantic's, or a limit in bytes. Clients get a sentence, the log gets what happened. Responses with a code
have a sentence already.
"""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http import event_streams
from blip_space.apps.http.refusals import CODE_HEADER, Refusal, is_protocol, is_upload, route_path
from blip_space.apps.http.upload_failures import refusal_of
from blip_space.images import MAX_UPLOAD_BYTES

log = logging.getLogger(__name__)

LOOKUP_ERROR = "FnIndexInferError"
"""Gradio's error for an endpoint that does not exist, which has no base class of its own."""

CALLS = ("/gradio_api/call/", "/gradio_api/run/", "/gradio_api/api/")

INTERNAL = Refusal(500, "internal_error", "An internal error occurred; the server's log has the details. Try again.")
INVALID_CALL = Refusal(
    404, "not_found", "There is no such endpoint, or it has no such parameter. The API page lists both."
)
INVALID_BODY = (
    "The request is no valid JSON, or has a value of the wrong type. The API page lists what each call takes."
)
LARGE_FILE = f"A file is larger than {MAX_UPLOAD_BYTES // 10**6} MB. Send a smaller or more strongly compressed copy."
SENTENCES: dict[int, Refusal] = {
    refusal.status: refusal
    for refusal in (
        Refusal(400, "invalid_value", INVALID_BODY),
        Refusal(
            403, "forbidden", "This server gives out no such file. It has only its page and what was uploaded to it."
        ),
        Refusal(
            404, "not_found", "There is nothing at this address. The page is at /, and its footer leads to the API."
        ),
        Refusal(405, "not_found", "This address does not support this method. The API page shows how to call it."),
        Refusal(413, "too_large", LARGE_FILE),
        Refusal(422, "invalid_value", INVALID_BODY),
        Refusal(503, "busy", "The server is busy, and its queue is full. Try again in a moment.", {"Retry-After": "5"}),
    )
}
INVALID_UPLOAD = Refusal(400, "invalid_value", "The upload has no files in a form that can be read. Send it again.")
STOPPING = Refusal(503, "stopping", event_streams.STOPPING)
STOPPED_DETAIL = "Queue is stopped."

MAX_KEPT_BYTES = 65_536
"""How much of a failed response is read for its meaning."""


class ErrorSentences:
    """ASGI middleware: passes successful responses on, and replaces the body of all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, and answer for it if it fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response = _Response(scope, receive, send)
        try:
            await self._app(scope, receive, response.send)
        except Exception as error:
            await response.fail(error)


class _Response:
    """One response: held back while it may have to be replaced."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._start: Message | None = None
        self._body = b""
        self._is_failure = self._is_stream = self._is_ended = False

    async def send(self, message: Message) -> None:
        """Take a message of the app, and pass it on unless it is part of a failed response."""
        if message["type"] == "http.response.start":
            self._start = message
            headers = Headers(raw=message["headers"])
            self._is_failure = message["status"] >= 400
            self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
        if not self._is_failure:
            self._is_ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            is_gradio = self._is_stream and not is_protocol(self._scope)
            await self._send(event_streams.with_sentences(message) if is_gradio else message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")[:MAX_KEPT_BYTES]
            if not message.get("more_body", False) and not self._is_ended:
                self._is_ended = True
                await self._replace()

    async def fail(self, error: Exception) -> None:
        """Answer for an app that raised an error. A stream has its last message by now and only ends."""
        failure = refusal_of(error) if is_upload(self._scope) else None
        if failure is not None:
            log.warning("an upload failed: %s at %s", type(error).__name__, _origin(error))
        is_expected = _is_expected(error) or failure is not None
        if self._start is None and not is_expected and self._is_call_mistake(error):
            log.info("a call was refused: %s at %s", type(error).__name__, _origin(error))
            await self._refuse(INVALID_CALL)
            return
        if not is_expected:
            log.error("a request to %s failed", _printable(route_path(self._scope)), exc_info=error)
        if self._start is None or (self._is_failure and not self._is_ended):
            await self._refuse(failure or INTERNAL)
        elif self._is_stream and not self._is_ended:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _is_call_mistake(self, error: Exception) -> bool:
        """Gradio looks up an endpoint and its parameters by name, and raises what the lookup raises."""
        is_call = self._scope["method"] == "POST" and route_path(self._scope).startswith(CALLS)
        is_lookup = isinstance(error, LookupError | TypeError | ValueError) or type(error).__name__ == LOOKUP_ERROR
        return is_call and is_lookup

    async def _replace(self) -> None:
        """Send the failed response on if it is ours, or a sentence in its place."""
        assert self._start is not None
        status = self._start["status"]
        content = _parse(self._body)
        code: Any = Headers(raw=self._start["headers"]).get(CODE_HEADER)
        if code and set(content) == {"detail"}:
            await self._refuse(Refusal(status, code, content["detail"]))
        elif code or not _is_foreign(content):
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": self._body, "more_body": False})
        elif status == 500 and self._body.startswith(b"Internal Server Error"):
            self._start = None  # the error follows
        else:
            await self._refuse(self._sentence(status, content))

    def _sentence(self, status: int, content: dict[str, Any]) -> Refusal:
        if status == 503 and content.get("detail") == STOPPED_DETAIL:
            return STOPPING
        if status == 400 and is_upload(self._scope):
            return INVALID_UPLOAD
        refusal = SENTENCES.get(status) or (SENTENCES[400] if status < 500 else INTERNAL)
        return Refusal(status, refusal.code, refusal.sentence, refusal.headers)

    async def _refuse(self, refusal: Refusal) -> None:
        await refusal.send(self._scope, self._receive, self._send)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_foreign(content: dict[str, Any]) -> bool:
    """Whether a failed response was written by a library: text, a `detail` alone, or an error without a sentence."""
    return not content or set(content) == {"detail"} or content.get("error", "") is None


def _is_expected(error: BaseException) -> bool:
    """Whether the client left, or asked a stream for what is not there."""
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    return isinstance(cause, ClientDisconnect) or (isinstance(cause, HTTPException) and cause.status_code < 500)


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no frame"


def _printable(path: str) -> str:
    """A path for the log, without the names of files and sessions that callers put into it."""
    return "/".join(path.split("=")[0].split("/")[:3])[:80].encode("ascii", "replace").decode()
