"""The Model Context Protocol over HTTP, for the tools of `tools`. The only importer of mcp.

Each request is complete in itself: the server keeps no session, so any of several servers can answer it. An answer that
grows is reported as progress to a client that asks for it, and ends when its client leaves.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request as HTTPRequest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from blip_space import __version__
from blip_space.apps.http.body_limits import DATA_BYTES
from blip_space.apps.http.callers import caller_of
from blip_space.apps.http.clients import client_of
from blip_space.apps.mcp.tools import Tool, list_tools, parse_call
from blip_space.callers import current_caller
from blip_space.engine.output import ANSWER_FAILED
from blip_space.errors import UserError, quote
from blip_space.serving.observed import current_client, current_endpoint
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)

PATH = "/mcp"
NEEDS_MCP = "--mcp needs mcp, which is not installed: pip install 'mcp>=1.21,<2'."
INSTRUCTIONS = "Answers questions about images, and captions them. An image is sent with each call, as base64."
HEARTBEAT_SECONDS = 0.25
"""How often it is checked whether the client is still there, and the most often that progress is reported."""

MAX_THREADS = 256
"""How many calls run at once; each takes a thread while it waits for its answer. The engine's queue is shorter."""

OnEnd = Callable[[str, str], object]


class ToolServer:
    """The tools of one engine. `on_end` is called with a tool's name and the outcome of each of its calls."""

    def __init__(self, engine: EngineProtocol, on_end: OnEnd) -> None:
        """Raises `UserError` if mcp is not installed."""
        try:
            import mcp.types
            from mcp.server import lowlevel
            from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
        except ImportError:
            raise UserError(NEEDS_MCP) from None
        self._types: Any = mcp.types
        self._engine, self._on_end = engine, on_end
        self._tools = {tool.name: tool for tool in list_tools(engine)}
        new_server: Any = lowlevel.Server  # its decorators have no types
        self._server = new_server("blip-space", __version__, instructions=INSTRUCTIONS)
        self._server.list_tools()(self._list)
        self._server.call_tool(validate_input=False)(self._call)  # ours says what to do instead
        self._manager: Any = StreamableHTTPSessionManager(
            self._server, stateless=True, max_request_body_size=DATA_BYTES
        )
        self._threads = anyio.CapacityLimiter(MAX_THREADS)

    @property
    def routes(self) -> list[Route]:
        """The route of the tools. There is no stream without a request, so no GET."""
        return [Route(PATH, _Endpoint(self._manager), methods=["POST"])]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """While it is open, calls are answered, on the event loop that it was opened on."""
        logging.getLogger("mcp").setLevel(logging.WARNING)
        async with self._manager.run():
            yield

    async def _list(self) -> list[Any]:
        hints = self._types.ToolAnnotations(readOnlyHint=True, idempotentHint=True, openWorldHint=False)
        return [
            self._types.Tool(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                inputSchema=dict(tool.schema),
                annotations=hints,
            )
            for tool in self._tools.values()
        ]

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The result of a call: the answer, or the sentence of an error with its code."""
        tool, outcome = self._tools.get(name), "cancelled"
        try:
            if tool is None:
                raise UserError(f"There is no tool {quote(name)}. The tools are {', '.join(self._tools)}.")
            text = await self._answer(tool, arguments)
            outcome = "answered"
            return self._types.CallToolResult(content=[self._types.TextContent(type="text", text=text)])
        except UserError as error:
            outcome = error.code
            return self._error(error)
        except Exception:
            log.exception("a tool failed")
            outcome = "internal_error"
            return self._error(UserError(ANSWER_FAILED, code="internal_error"))
        finally:
            if outcome != "cancelled":  # which the engine's observer counts
                self._on_end(tool.name if tool else "mcp", outcome)

    def _error(self, error: UserError) -> Any:
        content = [self._types.TextContent(type="text", text=str(error))]
        return self._types.CallToolResult(content=content, isError=True, _meta={"code": error.code})

    async def _answer(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        http_request = self._server.request_context.request
        scope: Scope = http_request.scope
        current_caller.set(caller_of(scope))  # for this call only: it has a context of its own
        current_endpoint.set(tool.name)
        current_client.set(client_of(scope))
        response = await self._in_thread(self._submit, tool, arguments)
        try:
            return await self._read(response, http_request)
        finally:
            response.cancel()

    def _submit(self, tool: Tool, arguments: Mapping[str, Any]) -> ResponseStream:
        return self._engine.submit(parse_call(tool, arguments))

    async def _read(self, response: ResponseStream, http_request: HTTPRequest) -> str:
        """The whole answer, of which the client hears as it grows. Raises the error that ended it."""
        updates, text, reported = response.updates(HEARTBEAT_SECONDS), "", ""
        try:
            while True:
                update = await self._in_thread(next, updates, None)
                if update is None:
                    return text
                text = update
                if await http_request.is_disconnected():
                    response.cancel()
                elif text != reported:
                    reported = text
                    await self._report(response.tokens, text)
        finally:
            updates.close()  # type: ignore[attr-defined]

    async def _report(self, tokens: int, text: str) -> None:
        context = self._server.request_context
        token = context.meta.progressToken if context.meta else None
        if token is not None:
            await context.session.send_progress_notification(
                token, float(tokens), message=text, related_request_id=str(context.request_id)
            )

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._threads)


class _Endpoint:
    """The protocol's ASGI app; a class, since a route takes a function for a handler of requests."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._manager.handle_request(scope, receive, send)
