"""One server: page, API and `/healthz` in front of one engine.

Knows when things start and stop and what is logged, which is never a picture or a word of a visitor; knows nothing of
what is on the page. The page is up first and the model loads behind it.
"""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from blip_space import catalogue
from blip_space.apps import page
from blip_space.apps.uploads import UploadLimit, delete_expired
from blip_space.engine.request import EngineConfig
from blip_space.errors import UserError
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.threaded import ThreadedEngine
from blip_space.settings import Settings

log = logging.getLogger(__name__)

MAX_THREADS = 96
"""More than the answers that may be in hand, each of which occupies a thread between two tokens."""

MAX_SHORT_EVENTS = 8
"""How many events of one kind run at once, answers aside."""

MAX_QUEUED = 256
MAX_SESSIONS = 1_000

MAX_UPLOAD_BYTES = 20 * 1024**2
"""What is stored at all; told as 20 MB by Gradio, and a little more than `images` reads."""


@dataclass(frozen=True)
class Server:
    """A page that is up: where, and how to take it down."""

    url: str
    engine: EngineProtocol
    demo: Any

    def close(self) -> None:
        """End the answers in hand, then the page."""
        self.engine.stop()
        self.demo.close(verbose=False)


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM. `UserError` when the models or the port cannot be had."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("blip_space").setLevel(logging.INFO)
    first, *others = [catalogue.find_operator_model(name) for name in settings.models]
    specs = [replace(first, adapter=settings.adapter), *others]
    catalogue.check_unique_names(specs)
    engine = _engine(specs, settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # after Ray, which has a handler of its own
    server = launch(engine, host=settings.host, port=settings.port)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        log.info("stopping")
        server.close()


def _engine(specs: list[catalogue.ModelSpec], settings: Settings) -> EngineProtocol:
    config = EngineConfig(max_batch_size=settings.rows)
    if settings.replicas and not settings.ray:
        raise UserError("--replicas are those of a cluster. Name it with --ray, or leave --replicas out.")
    if not settings.ray:
        return ThreadedEngine(specs, precision=settings.precision, config=config)
    from blip_space.apps.cluster.replicated_engine import ReplicatedEngine

    return ReplicatedEngine(
        settings.ray, specs, precision=settings.precision, config=config, replicas=settings.replicas or None
    )


def launch(engine: EngineProtocol, *, host: str, port: int) -> Server:
    """Put the page up, then start the engine. Returns as soon as the page answers."""
    started = time.monotonic()
    _refuse_address(host, port)
    delete_expired(Path(get_upload_folder()), max_age_seconds=page.MAX_UPLOAD_AGE_SECONDS)
    demo = page.build(engine)
    try:
        _, url, _ = demo.queue(api_open=False, max_size=MAX_QUEUED, default_concurrency_limit=MAX_SHORT_EVENTS).launch(
            server_name=host,
            server_port=port,
            app_kwargs={
                "routes": [Route("/healthz", _health(engine))],
                "middleware": [Middleware(UploadLimit, folder=get_upload_folder())],
            },
            max_threads=MAX_THREADS * engine.replicas,
            state_session_capacity=MAX_SESSIONS,
            max_file_size=MAX_UPLOAD_BYTES,
            allowed_paths=page.PUBLIC_FOLDERS,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            show_error=False,
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,
            pwa=False,
            **page.theme_options(),
        )
    except OSError as error:
        raise UserError(_unavailable(host, port)) from error
    log.info("the page is up at %s after %.1f s", url, time.monotonic() - started)
    engine.start()
    return Server(url, engine, demo)


def _refuse_address(host: str, port: int) -> None:
    """`UserError` where nothing can listen there, which the server itself would tell in a line of its library's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except PermissionError:
        raise UserError(f"This user may not listen at port {port}. Choose one from 1024 on with --port.") from None
    except (socket.gaierror, UnicodeError):
        raise UserError(_no_address(host)) from None
    except OSError as error:
        told = _no_address(host) if error.errno == errno.EADDRNOTAVAIL else _unavailable(host, port)
        raise UserError(told) from None


def _no_address(host: str) -> str:
    return f"{host[:80]!r} is no address of this machine. Choose 127.0.0.1, or 0.0.0.0 for all, with --host."


def _unavailable(host: str, port: int) -> str:
    return (
        f"The page cannot listen at {host}, port {port}: another program may use it. Stop that one, or choose another "
        "with --port."
    )


def _health(engine: EngineProtocol) -> Any:
    def answer(_request: Request) -> JSONResponse:
        status = engine.status()
        body = {
            "status": status.status,
            "model": status.model,
            "precision": status.precision,
            "device": status.device,
            "waiting": status.waiting,
            "running": status.running,
            **asdict(status.metrics),
        }
        if status.load_progress:
            body["progress"] = asdict(status.load_progress)
        if status.replicas is not None:
            body["replicas"] = status.replicas
        return JSONResponse(body | ({"error": status.error} if status.status == "failed" else {}))

    return answer
