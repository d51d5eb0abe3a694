"""A caller of a server's API by plain HTTP, at an address of its own: 127.0.0.2, 127.0.0.3, …

Cheaper than gradio_client, so that many of them fit beside the server on the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

API = "/gradio_api"
CALL_SECONDS = 300.0
UNFORESEEN = "no_code"


class CallError(Exception):
    """A refused or failed call, with its code."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code, self.sentence = code, sentence


class Caller:
    """One session at one address."""

    def __init__(self, url: str, number: int, timeout: float = CALL_SECONDS) -> None:
        """`number` from 2 on, for the address."""
        transport = httpx.HTTPTransport(local_address=f"127.0.{number // 256}.{number % 256}")
        self.web = httpx.Client(base_url=url, timeout=timeout, transport=transport, trust_env=False)

    def close(self) -> None:
        """End the connections."""
        self.web.close()

    def upload(self, data: bytes, name: str = "image.png") -> dict[str, Any]:
        """Upload a file; the value that names it in a call. Raises `CallError`."""
        response = self.web.post(f"{API}/upload", files={"files": (name, data)})
        if response.status_code != 200:
            raise refusal(response)
        return {"path": response.json()[0], "meta": {"_type": "gradio.FileData"}}

    def call(self, endpoint: str, **values: Any) -> str:
        """Begin a call, without listening; its number. Raises `CallError` if it is refused."""
        return self._begin(f"/call/v2/{endpoint}", values)

    def call_to_cancel(self, endpoint: str, **values: Any) -> tuple[str, Callable[[], None]]:
        """The same, and what cancels the call as the page does."""
        parameters = self.web.get(f"{API}/info").json()["named_endpoints"][f"/{endpoint}"]["parameters"]
        data = [values.get(item["parameter_name"], item.get("parameter_default")) for item in parameters]
        dependencies = self.web.get("/config").json()["dependencies"]
        index = next(item["id"] for item in dependencies if item["api_name"] == endpoint)
        session = uuid4().hex
        event = self._begin(f"/call/{endpoint}", {"data": data, "session_hash": session})
        body = {"session_hash": session, "fn_index": index, "event_id": event}

        def cancel() -> None:
            self.web.post(f"{API}/cancel", json=body)

        return event, cancel

    @contextmanager
    def listen(self, endpoint: str, event: str) -> Iterator[Iterator[tuple[str, Any]]]:
        """The messages of a call, each with its kind: `generating`, `complete`, `error`, `heartbeat`."""
        with self.web.stream("GET", f"{API}/call/{endpoint}/{event}") as response:
            if response.status_code != 200:
                response.read()
                raise refusal(response)
            yield _messages(response)

    def result(self, endpoint: str, event: str) -> Any:
        """The result of a call, once it is complete. Raises `CallError` if it fails."""
        with self.listen(endpoint, event) as messages:
            for kind, data in messages:
                if kind == "error":
                    raise as_call_error(data)
                if kind == "complete":
                    return data[0] if isinstance(data, list) and data else data
        raise CallError("cut_off", "The stream ended before the call was complete.")

    def ask(self, endpoint: str, **values: Any) -> Any:
        """Call and wait for the result. Raises `CallError`."""
        return self.result(endpoint, self.call(endpoint, **values))

    def _begin(self, path: str, body: dict[str, Any]) -> str:
        response = self.web.post(f"{API}{path}", json=body)
        if response.status_code != 200:
            raise refusal(response)
        event: str = response.json()["event_id"]
        return event


def refusal(response: httpx.Response) -> CallError:
    """The error of a response that is not 200."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    sentence = body.get("detail", body) if isinstance(body, dict) else body
    return CallError(response.headers.get("X-Error-Code", f"{UNFORESEEN}_{response.status_code}"), str(sentence)[:300])


def as_call_error(data: Any) -> CallError:
    """The error that a message of the kind `error` has."""
    if isinstance(data, dict):
        return CallError(str(data.get("title") or UNFORESEEN), str(data.get("error"))[:300])
    return CallError(UNFORESEEN, str(data)[:300])


def _messages(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:])
