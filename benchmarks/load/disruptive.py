"""Clients that leave, cancel, send more than their share, or send what is no request. Every input is harmless.

How their own requests end is counted but not judged, except that no response may be a bare error of the server.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from typing import Any

import httpx

from benchmarks.load.caller import API, UNFORESEEN, Caller, CallError, as_call_error, refusal
from benchmarks.load.counts import Counts

LONG = {"prompt": "What is this?", "max_new_tokens": 256, "repetition_penalty": 1.2}
FLOOD_CALLS = 40
PAUSE_SECONDS = 0.5


class DisruptiveClient:
    """Does one thing over and over, until it is stopped."""

    def __init__(self, url: str, number: int, images: list[bytes], counts: Counts, *, action: int) -> None:
        self._url, self._number = url, number
        self._images, self._counts, self._rng = images, counts, random.Random(number)
        self._caller = Caller(url, number + 2, timeout=60)
        actions = (self._leave, self._cancel, self._leave_upload, self._send_garbage, self._flood, self._cancel)
        self.act: Callable[[], None] = actions[action % len(actions)]

    @property
    def kind(self) -> str:
        """What it does."""
        return self.act.__name__.strip("_").replace("_", " ")

    def run(self, done: threading.Event) -> None:
        """Until `done`."""
        while not done.wait(self._rng.uniform(0, PAUSE_SECONDS)):
            try:
                self.act()
            except CallError as error:
                self._count(error)
            except httpx.HTTPError as error:
                self._counts.add(f"{self.kind}: {type(error).__name__}")
        self._caller.close()

    def _count(self, error: CallError) -> None:
        is_bare = error.code.startswith(UNFORESEEN)
        self._counts.add(
            f"{'bare' if is_bare else 'refused'}: {self.kind}: {error.code}", str(error) if is_bare else ""
        )

    def _image(self) -> dict[str, Any]:
        return self._caller.upload(self._rng.choice(self._images))

    def _begin(self, **values: Any) -> str:
        event = self._caller.call("chat", **values)
        self._counts.add("call: chat")
        self._counts.add("unknown: chat")
        return event

    def _leave(self) -> None:
        """Ask for a long answer, and close the connection after a few updates, or before the first."""
        event, updates = self._begin(image=self._image(), **LONG), self._rng.randint(0, 3)
        with self._caller.listen("chat", event) as messages:
            for _, _ in zip(range(updates), messages, strict=False):
                pass
        self._counts.add("left")

    def _cancel(self) -> None:
        """Ask for a long answer, and cancel it as the page does."""
        event, cancel = self._caller.call_to_cancel("chat", image=self._image(), **LONG)
        self._counts.add("call: chat")
        self._counts.add("unknown: chat")
        with self._caller.listen("chat", event) as messages:
            for kind, data in messages:
                if kind == "generating":
                    cancel()
                    break
                if kind == "error":
                    raise as_call_error(data)
        self._counts.add("cancelled")

    def _leave_upload(self) -> None:
        """Announce an upload, send half of it and close the connection; then make a call without listening."""
        data = self._rng.choice(self._images)
        request = f"POST {API}/upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        head = f"{request}Content-Length: {2 * len(data)}\r\n\r\n".encode()
        part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        from socket import create_connection

        host, port = self._url.removeprefix("http://").split(":")
        number = self._number + 2
        with create_connection((host, int(port)), 10, (f"127.0.{number // 256}.{number % 256}", 0)) as connection:
            connection.sendall(head + part + data)
        self._begin(image=self._image(), **LONG)
        self._counts.add("left upload")

    def _flood(self) -> None:
        """Many calls at once, without listening to any; then nothing for a while."""
        image = self._image()
        for _ in range(FLOOD_CALLS):
            try:
                self._begin(image=image, **LONG)
            except CallError as error:
                self._count(error)
        self._counts.add("flooded")

    def _send_garbage(self) -> None:
        """Bytes, JSON and files that are no request of this API."""
        noise = self._rng.randbytes(self._rng.randint(1, 5_000))
        kind = self._rng.randrange(6)
        web = self._caller.web
        if kind == 0:
            response = web.post(f"{API}/call/v2/chat", content=noise, headers={"Content-Type": "application/json"})
        elif kind == 1:
            response = web.post(f"{API}/call/v2/{noise[:8].hex()}", json={"data": [noise.hex()]})
        elif kind == 2:
            response = web.post(f"{API}/upload", content=noise, headers={"Content-Type": "multipart/form-data"})
        elif kind == 3:
            response = web.post(f"{API}/queue/join", json={"data": [None], "fn_index": self._rng.randrange(-9, 9_999)})
        elif kind == 4:
            response = web.get(f"{API}/file={noise[:20].hex()}")
        else:
            self._ask_nonsense(noise)
            return
        if response.status_code >= 400:
            raise refusal(response)

    def _ask_nonsense(self, noise: bytes) -> None:
        image = self._caller.upload(noise, "noise.png")
        values: dict[str, Any] = self._rng.choice(
            ({}, {"language": noise[:3].hex()}, {"temperature": 10**9}, {"history": [[]]})
        )
        event = self._begin(image=image, prompt=json.dumps(noise[:99].hex()), **values)
        self._caller.result("chat", event)
