"""A remote model for the commands `ask` and `caption`, which use it as they use a model of this machine.

Must not import openai or an app.
"""

from __future__ import annotations

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.remote import PRECISION
from blip_space.engine.request import Request
from blip_space.serving.remote.engine import RemoteEngine
from blip_space.serving.response import ResponseStream


class RemoteSession:
    """A started `RemoteEngine`. Its thread ends with the program."""

    precision = PRECISION

    def __init__(self, spec: ModelSpec, key: str) -> None:
        self.spec = spec
        self._engine = RemoteEngine(spec, key=key)
        self._engine.start()

    def generate(self, request: Request) -> ResponseStream:
        """The reply to a request, as by `LocalEngine.generate`. Raises `UserError` if the request is invalid."""
        return self._engine.submit(request)
