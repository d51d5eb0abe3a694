"""The server: the page, the API and `/healthz` in front of one engine. The page responds while the model still loads.

Starts and stops these parts and configures the log, which never contains a user's image or text. Must not depend on the
page's components.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import Route

from blip_space import catalogue
from blip_space.apps import failed_process, health, http, openai_api, page, repeated_errors
from blip_space.apps.address import check_address, unavailable
from blip_space.apps.http.connections import limit_connections
from blip_space.apps.mcp.server import ToolServer
from blip_space.apps.metrics import ServerMetrics
from blip_space.apps.page.localized import LocalizedPage
from blip_space.apps.uploads import MAX_AGE_SECONDS, delete_expired
from blip_space.catalogue.remote import with_adapter
from blip_space.engine.request import EngineConfig
from blip_space.errors import UserError
from blip_space.images import uploaded
from blip_space.serving import log_formats
from blip_space.serving.joined import JoinedEngine
from blip_space.serving.machine import Machine
from blip_space.serving.observed import ObservedEngine
from blip_space.serving.process_engine import ProcessEngine
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.routed import RoutedEngine
from blip_space.serving.server_memory import keep_small
from blip_space.serving.threaded import ThreadedEngine
from blip_space.settings import Settings, engine_process, openai_key, upload_folder, zero_gpu

log = logging.getLogger(__name__)

MAX_THREADS = 256
"""Threads for each engine: more than its concurrent requests, as each blocks a thread while it waits for a token. A
thread starts when it is needed."""

MAX_SHORT_EVENTS = 8
"""How many events of one kind run at once; the events that generate answers have limits of their own."""

MAX_QUEUED = 256
MAX_SESSIONS = 1_000

MAX_STORED_BYTES = 20 * 1024**2
"""The largest upload that Gradio stores. Its error message calls this 20 MB; `images` reads slightly less."""

WAKE_SECONDS = 1.0
"""How often the main thread looks for signals: one that the system gives to another thread does not wake it."""

END_SECONDS = 1.0
"""How long answers that the engine has ended, and then all other requests, may take to reach their clients."""

STOP_SECONDS = 8.0
"""After that a stopping server ends whatever still runs. Docker ends it after 10."""


@dataclass(frozen=True)
class Server:
    """A running server: its URL, its engine, and the Gradio app with the page and the API."""

    url: str
    engine: EngineProtocol
    demo: Any
    open_requests: http.OpenRequests

    def close(self, *, drain_seconds: float = 0.0) -> None:
        """Refuse new requests, let accepted uploads and calls finish for `drain_seconds`, end the others with a
        sentence, and stop serving."""
        self.open_requests.refuse_new()
        if drain_seconds:
            self.open_requests.wait_for_work(drain_seconds, self.demo.has_calls)
        stopping = threading.Thread(target=self.engine.stop)
        stopping.start()
        self.open_requests.wait_for_answers(END_SECONDS)  # which the engine has ended
        self.open_requests.end_all(END_SECONDS)
        self.demo.close(verbose=False)
        uploaded.POOL.stop()
        uploaded.check_by(None)
        stopping.join()


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM, or until the GPU fails. Raises `UserError` if a model is unknown or the port is
    unavailable."""
    log_formats.configure(settings.log_format)
    logging.getLogger("blip_space").setLevel(logging.INFO)
    first, *others = [catalogue.find_operator_model(name) for name in settings.models]
    specs = [with_adapter(first, settings.adapter), *others]
    catalogue.check_unique_names(specs)
    if settings.mcp and zero_gpu.is_zero_gpu():
        raise UserError("--mcp needs a GPU of its own: on ZeroGPU each user of the page has a quota. Leave --mcp out.")
    device_lost = threading.Event()
    engine = _create_engine(specs, settings, device_lost)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # after Ray has set its handler
    server = None
    try:
        server = launch(engine, host=settings.host, port=settings.port, settings=settings)
        if settings.log_format == log_formats.JSON:
            log_formats.adopt("uvicorn")
        repeated_errors.install()
        keep_small(engine)
        while not device_lost.wait(WAKE_SECONDS):
            pass
        failed_process.end_server()
    except KeyboardInterrupt:
        log.info("stopping")
        failed_process.end_after(settings.drain + STOP_SECONDS)
        if server:
            server.close(drain_seconds=settings.drain)


def _create_engine(
    specs: list[catalogue.ModelSpec], settings: Settings, device_lost: threading.Event
) -> EngineProtocol:
    """One engine for the models of this machine, one for each remote model."""
    local = [spec for spec in specs if not spec.server]
    engines = [_create_local_engine(local, settings, device_lost)] if local else []
    if len(local) < len(specs):
        from blip_space.serving.remote.engine import RemoteEngine

        config = EngineConfig(max_batch_size=settings.rows)
        engines += [RemoteEngine(spec, key=openai_key(), config=config) for spec in specs if spec.server]
    return engines[0] if len(engines) == 1 else JoinedEngine(engines, [spec.name for spec in specs])


def _create_local_engine(
    specs: list[catalogue.ModelSpec], settings: Settings, device_lost: threading.Event
) -> EngineProtocol:
    config = EngineConfig(max_batch_size=settings.rows)
    if settings.replicas and not settings.ray:
        raise UserError("--replicas needs a cluster. Name it with --ray, or leave --replicas out.")
    if zero_gpu.is_zero_gpu():
        from blip_space.serving.zero_gpu import ZeroGpuEngine

        return ZeroGpuEngine(specs, precision=settings.precision, config=config)
    if not settings.ray:
        engines: dict[str, EngineProtocol] = {
            device: _engine_class(device)(
                specs, precision=settings.precision, device=device, config=config, on_device_lost=device_lost.set
            )
            for device in settings.devices
        }
        return RoutedEngine(engines) if len(engines) > 1 else next(iter(engines.values()))
    from blip_space.apps.cluster.replicated_engine import ReplicatedEngine

    return ReplicatedEngine(
        settings.ray,
        specs,
        precision=settings.precision,
        device=settings.device,
        config=config,
        replicas=settings.replicas or None,
    )


def _engine_class(device: str) -> type[ThreadedEngine] | type[ProcessEngine]:
    """The engine for a device: one in a process of its own on CUDA, unless a variable decides."""
    is_separate = engine_process()
    if is_separate is None:
        is_separate = Machine(device).has_cuda
    return ProcessEngine if is_separate else ThreadedEngine


def launch(engine: EngineProtocol, *, host: str, port: int, settings: Settings | None = None) -> Server:
    """Start the page, then the engine; return once the page responds. Raises `UserError` if the port is unavailable.

    `host` and `port` are used before those of `settings`, from which the middleware takes its limits.
    """
    started, settings, open_requests = time.monotonic(), settings or Settings(), http.OpenRequests()
    check_address(host, port)
    delete_expired(upload_folder(), max_age_seconds=MAX_AGE_SECONDS)
    metrics = ServerMetrics(engine)
    observed = ObservedEngine(engine, metrics.add_answer, answers_at_once=settings.answers_at_once)
    demo = page.build(observed)
    demo.on_call_end = metrics.add_call

    def find_obstacle() -> http.Refusal | None:
        if zero_gpu.is_zero_gpu():
            return openai_api.NOT_ON_ZERO_GPU
        return health.find_obstacle(engine.status(), is_stopping=open_requests.is_stopping)

    tools = ToolServer(observed, metrics.add_call) if settings.mcp else None
    try:
        _, url, _ = demo.queue(api_open=False, max_size=MAX_QUEUED, default_concurrency_limit=MAX_SHORT_EVENTS).launch(
            server_name=host,
            server_port=port,
            app_kwargs={
                "routes": [
                    *health.routes(engine, lambda: open_requests.is_stopping),
                    Route("/metrics", metrics.respond),
                    *openai_api.routes(observed, find_obstacle, metrics.add_call),
                    *(tools.routes if tools else ()),
                ],
                "middleware": [Middleware(LocalizedPage, current=page.current_parts(observed))],
                "lifespan": _middleware_installer(settings, open_requests, metrics, tools),
            },
            root_path=settings.root_path or None,
            max_threads=MAX_THREADS * engine.replicas,
            state_session_capacity=MAX_SESSIONS,
            max_file_size=MAX_STORED_BYTES,
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
            _frontend=False,  # else Gradio gives up where a busy machine takes 3 s for the page
            **page.theme_options(),
        )
    except OSError as error:
        raise UserError(unavailable(host, port)) from error
    limit_connections(demo.server.config, settings.trusted_proxies)
    log.info("the page is up at %s after %.1f s", url, time.monotonic() - started)
    engine.start()
    if isinstance(engine, ProcessEngine):
        uploaded.check_by(engine.check_image)
    else:
        uploaded.POOL.start()
    return Server(url, engine, demo, open_requests)


def _middleware_installer(
    settings: Settings, open_requests: http.OpenRequests, metrics: ServerMetrics, tools: ToolServer | None
) -> Any:
    """A lifespan that puts our middleware in front of all that Gradio has, its CORS and its error pages included, and
    runs the tools for agents.

    Gradio inserts its own middleware before that of `app_kwargs`; only the finished stack can be wrapped as a whole.
    Requests come after the start of the lifespan.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = http.wrap(app.middleware_stack, settings, open_requests, metrics.add_response)
        async with tools.run() if tools else nullcontext():
            yield

    return lifespan
