"""A server of OpenAI's protocol whose model's name says how it answers: as it should, or wrongly in one way.

`echo` repeats the text of the newest message word by word. The bodies of all requests are kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HTML = b"<!doctype html><title>502 Bad Gateway</title>"
WINDOW = 512
PROMPT_TOKENS = 9


def chunk(text: str | None = None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice], **fields}


class Reply:
    """What a model writes to one request, whose number among those of this model is `number`."""

    def __init__(self, handler: Handler, body: dict[str, Any], number: int) -> None:
        self._handler, self.body, self.number = handler, body, number

    @property
    def question(self) -> str:
        """The text of the newest message."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")

    def whole(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        """Send a response of a known length."""
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", kind)
        self._handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def error(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        """Send an error in the protocol's form."""
        body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
        self.whole(status, json.dumps(body).encode(), **headers)

    def begin(self) -> None:
        """Begin a stream."""
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "text/event-stream")
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

    def raw(self, data: bytes) -> None:
        """Send bytes of a stream."""
        self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self._handler.wfile.flush()

    def event(self, content: Any) -> None:
        """Send an event of a stream."""
        self.raw(f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode())

    def end(self) -> None:
        """End a stream as HTTP demands."""
        self._handler.wfile.write(b"0\r\n\r\n")

    def words(self, text: str) -> None:
        """Begin a stream, and send a chunk for each word."""
        self.begin()
        for index, word in enumerate(text.split(" ")):
            self.event(chunk(f" {word}" if index else word))

    def finish(self, reason: str = "stop", tokens: int | None = None) -> None:
        """End a stream as a server should."""
        self.event(chunk(reason=reason))
        if tokens is not None:
            usage = {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": tokens,
                "total_tokens": PROMPT_TOKENS + tokens,
            }
            self.event({**chunk(), "choices": [], "usage": usage})
        self.event("[DONE]")
        self.end()

    def wait_for_the_client(self) -> None:
        """Write until the client has left."""
        try:
            while not self._handler.server.stopping.wait(0.02):  # type: ignore[attr-defined]
                self.raw(b": waiting\n\n")
        except OSError:
            self._handler.server.left.set()  # type: ignore[attr-defined]


def echo(reply: Reply) -> None:
    text = f"{reply.question} of {reply.body['model']}"
    reply.words(text)
    reply.finish(tokens=len(text.split()) + 1)


def _held_if_asked(reply: Reply) -> None:
    (_held if reply._handler.server.held.is_set() else echo)(reply)  # type: ignore[attr-defined]


def _held(reply: Reply) -> None:
    reply.words("first")
    reply._handler.server.may_end.wait()  # type: ignore[attr-defined]
    reply.event(chunk(" last"))
    reply.finish()


def _endless(reply: Reply) -> None:
    reply.words("first")
    reply.wait_for_the_client()


def _silent(reply: Reply) -> None:
    reply.begin()
    reply._handler.server.stopping.wait()  # type: ignore[attr-defined]


def _stalls(reply: Reply) -> None:
    reply.words("a red")
    reply._handler.server.stopping.wait()  # type: ignore[attr-defined]


def _cut(reply: Reply) -> None:
    reply.words("a red")
    reply.end()


def _cut_once(reply: Reply) -> None:
    (_cut if reply.number == 1 else echo)(reply)


def _broken_chunks(reply: Reply) -> None:
    reply.words("a red")
    reply._handler.wfile.write(b"ffff\r\nhalf")


def _stays_open(reply: Reply) -> None:
    reply.words("a red circle")
    reply.event(chunk(reason="stop"))
    reply.event("[DONE]")
    reply._handler.server.stopping.wait()  # type: ignore[attr-defined]


def _without_done(reply: Reply) -> None:
    reply.words("a red circle")
    reply.event(chunk(reason="stop", usage={"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}))
    reply.end()


def _malformed(reply: Reply) -> None:
    reply.begin()
    reply.event('{"choices": [{')
    reply.end()


def _no_choices(reply: Reply) -> None:
    reply.begin()
    for _ in range(3):
        reply.event({**chunk(), "choices": []})
    reply.end()


def _strange_chunks(reply: Reply) -> None:
    reply.begin()
    for content in ("null", "[]", '"text"', '{"choices": null}', '{"choices": [null]}', '{"choices": [{"delta": 5}]}'):
        reply.event(content)
    reply.finish()


def _error_event(reply: Reply) -> None:
    reply.begin()
    reply.event({"error": {"message": "the GPU is lost", "code": 500}})
    reply.end()


def _named_error_event(reply: Reply) -> None:
    reply.begin()
    reply.raw(b'event: error\ndata: {"message": "the GPU is lost"}\n\n')
    reply.end()


def _other_role(reply: Reply) -> None:
    reply.begin()
    reply.event({**chunk(), "choices": [{"index": 0, "delta": {"content": "a red"}, "finish_reason": None}]})
    reply.event({**chunk(), "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})
    reply.event(chunk(" circle"))
    reply.finish()


def _never_ends(reply: Reply) -> None:
    reply.begin()
    while not reply._handler.server.stopping.is_set():  # type: ignore[attr-defined]
        reply.event(chunk("more and more " * 40))


def _busy_once(reply: Reply) -> None:
    reply.error(429, "slow down", Retry_After="0") if reply.number == 1 else echo(reply)


def _broken_once(reply: Reply) -> None:
    reply.whole(503, HTML, "text/html") if reply.number == 1 else echo(reply)


def _blank(reply: Reply) -> None:
    reply.words("")
    reply.finish()


def _withheld(reply: Reply) -> None:
    reply.begin()
    reply.finish("content_filter")


def _loop(reply: Reply) -> None:
    reply.words("red red red red red red red red")
    reply.finish("length")


Answer = Callable[[Reply], None]
TOO_LONG = "This model's maximum context length is 512 tokens. However, you requested 900 tokens."
ANSWERS: dict[str, Answer] = {
    "echo": echo,
    "one": _held_if_asked,
    "second": echo,
    "two": echo,
    "held": _held,
    "endless": _endless,
    "silent": _silent,
    "stalls": _stalls,
    "cut": _cut,
    "cut-once": _cut_once,
    "broken-chunks": _broken_chunks,
    "stays-open": _stays_open,
    "without-done": _without_done,
    "malformed": _malformed,
    "no-choices": _no_choices,
    "strange-chunks": _strange_chunks,
    "error-event": _error_event,
    "named-error-event": _named_error_event,
    "other-role": _other_role,
    "never-ends": _never_ends,
    "busy-once": _busy_once,
    "broken-once": _broken_once,
    "blank": _blank,
    "withheld": _withheld,
    "loop": _loop,
    "busy": lambda reply: reply.error(429, "slow down", Retry_After="90"),
    "status-500": lambda reply: reply.error(500, "CUDA error"),
    "status-401": lambda reply: reply.error(401, "no such key", "invalid_api_key"),
    "status-404": lambda reply: reply.error(404, "no such model", "model_not_found"),
    "too-long": lambda reply: reply.error(400, TOO_LONG),
    "refused": lambda reply: reply.error(422, "images are not supported"),
    "redirect": lambda reply: reply.whole(307, b"", Location="http://127.0.0.1:9/"),
    "html": lambda reply: reply.whole(200, HTML, "text/html"),
    "json": lambda reply: reply.whole(200, json.dumps({"choices": [{"message": {"content": "red"}}]}).encode()),
    "nothing": lambda reply: reply._handler.connection.close(),
}
"""What each model does."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The list of models."""
        server: Any = self.server
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in ("echo", "second")]
        listed[0] |= {"max_model_len": WINDOW}
        if server.listing_status != 200:
            Reply(self, {}, 0).error(server.listing_status, "no list")
        else:
            Reply(self, {}, 0).whole(200, json.dumps({"object": "list", "data": listed}).encode())

    def do_POST(self) -> None:
        """An answer, by the model's name."""
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(body)
        server.keys.append(self.headers.get("Authorization", ""))
        number = sum(other["model"] == body["model"] for other in server.requests)
        self.close_connection = True
        try:
            ANSWERS[body["model"]](Reply(self, body, number))
        except OSError:
            server.left.set()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class OpenAIServer(ThreadingHTTPServer):
    """The server; `requests` are the bodies so far and `keys` their headers `Authorization`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.listing_status = 200
        self.stopping, self.may_end, self.left = threading.Event(), threading.Event(), threading.Event()
        self.held = threading.Event()
        """Whether the model `one` waits after its first word."""

    @property
    def host(self) -> str:
        """Its address and port."""
        return f"127.0.0.1:{self.server_address[1]}"

    def name(self, model: str) -> str:
        """The operator's name of one of its models."""
        return f"openai:http://{self.host}/v1#{model}"

    def handle_error(self, *_: object) -> None:
        """A client that left is no error."""


@contextmanager
def running_server() -> Iterator[OpenAIServer]:
    """A server on a free port of this machine."""
    server = OpenAIServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.stopping.set()
    server.may_end.set()
    server.shutdown()
    server.server_close()
