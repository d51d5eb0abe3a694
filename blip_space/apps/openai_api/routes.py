"""The routes below `/v1`, and what answers for all others there.

Depends on Starlette and the engine's protocol only.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from blip_space.apps.http.refusals import PROTOCOL, Refusal, route_path
from blip_space.apps.openai_api.completions import ChatCompletions
from blip_space.apps.openai_api.forms import model_list, model_object
from blip_space.apps.openai_api.statuses import as_refusal
from blip_space.errors import UserError
from blip_space.serving.protocol import EngineProtocol

MODELS, COMPLETIONS = f"{PROTOCOL}/models", f"{PROTOCOL}/chat/completions"
NOT_HERE = (
    f"This server has GET {MODELS} and POST {COMPLETIONS} of OpenAI's protocol, and nothing else of it. "
    "Its other endpoints are those of its API page."
)
NOT_ON_ZERO_GPU = Refusal(
    403,
    "forbidden",
    "This Space takes its GPU from the quota of the user of its page, so it answers no programs below /v1. Use the "
    "page, or its API by gradio_client.",
)


def routes(
    engine: EngineProtocol,
    find_obstacle: Callable[[], Refusal | None],
    count: Callable[[str, str], object],
) -> list[Route]:
    """The routes for an engine. `find_obstacle` says why it cannot answer now, and `count` is called with the endpoint
    and the outcome of each call that ends, except those that their client leaves."""

    async def list_models(_request: Request) -> Response:
        return JSONResponse(model_list(engine.specs))

    async def describe_model(request: Request) -> Response:
        try:
            spec = engine.resolve_model(request.path_params["name"], engine.default.languages[0])
        except UserError as error:
            return as_refusal(error).response(request.scope)
        return JSONResponse(model_object(spec.name))

    return [
        Route(MODELS, list_models),
        Route(f"{MODELS}/{{name:path}}", describe_model),
        Route(COMPLETIONS, ChatCompletions(engine, find_obstacle, count), methods=["POST"]),
        Route(PROTOCOL, _NotHere()),
        Route(f"{PROTOCOL}/{{rest:path}}", _NotHere()),
    ]


class _NotHere:
    """ASGI application of every other address, for all methods."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request: the address is not there, or not with this method."""
        is_known = route_path(scope) in (MODELS, COMPLETIONS)
        await Refusal(405 if is_known else 404, "not_found", NOT_HERE).send(scope, receive, send)
