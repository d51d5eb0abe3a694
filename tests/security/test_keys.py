"""With keys every route needs one, but those that a table in the documents names; without keys nothing changes."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser

from blip_space.apps.http import keys
from blip_space.apps.http.rate_limits import RateLimits
from blip_space.settings import Settings
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.example_images import blue_circles
from tests.security.coroutines import run_in_thread

KEY, OTHER = "a-key-of-somebody", "a-key-of-another"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine(PARROT)


@pytest.fixture(scope="module")
def url(_own_uploads: None, engine: FakeEngine) -> Iterator[str]:
    """A server with two keys and limits."""
    from blip_space.apps import server

    settings = Settings(keys=(KEY, OTHER), requests_per_minute=40, answers_at_once=1)
    running = server.launch(engine, host="127.0.0.1", port=free_port(), settings=settings)
    yield running.url.rstrip("/")
    running.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "circles.png"
    file.write_bytes(blue_circles())
    return file


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", [
    "/config", "/metrics", "/gradio_api/info", "/gradio_api/queue/data?session_hash=a", "/v1/models", "/nothing",
    "/theme.css", "/manifest.json", "/gradio_api/file=assets/examples/octopus.png", "/",
])  # fmt: skip
def test_a_route_needs_a_key(web: httpx.Client, path: str) -> None:
    for headers in ({}, bearer("a-key-of-nobody-"), bearer(f"{KEY}x"), bearer("x"), bearer("ä" * 20)):
        answer = web.get(path, headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()])
        assert (answer.status_code, answer.headers["x-error-code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    if path in ("/config", "/metrics"):
        assert web.get(path, headers=bearer(OTHER)).status_code == 200


@pytest.mark.parametrize("path", keys.OPEN_ROUTES)
def test_open_routes_need_none(web: httpx.Client, path: str) -> None:
    assert web.get(path).status_code != 401


def test_a_key_opens_the_api(url: str, web: httpx.Client, image: Path) -> None:
    assert web.post("/gradio_api/upload", files={"files": ("a.png", blue_circles())}).status_code == 401
    assert web.post("/gradio_api/call/models", json={"data": []}).status_code == 401
    client = Client(url, headers=bearer(KEY), verbose=False)
    assert client.predict(handle_file(image), "hello", api_name="/chat") == "hello"


def test_the_form_sets_a_cookie_for_the_page_only(web: httpx.Client) -> None:
    assert "<form" in web.get("/", headers=HTML).text
    wrong = web.post("/sign-in", data={"key": "<b>wrong</b>"})
    assert (wrong.status_code, wrong.cookies) == (401, httpx.Cookies())
    assert "wrong" not in wrong.text
    assert web.post("/sign-in", content=b"key=" + b"a" * 10_000).status_code == 401
    answer = web.post("/sign-in", data={"key": KEY})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert KEY not in cookie
    assert web.get("/config").status_code == 200
    for path in ("/metrics", "/v1/models", "/v1"):
        assert web.get(path).status_code == 401


def test_a_cookie_of_a_frame_counts_in_frames_of_the_same_page_only(web: httpx.Client) -> None:
    """A browser sends no strict cookie in the frame of another site, such as that of a Space on the hub."""
    answer = web.post("/sign-in", data={"key": KEY}, headers={"Sec-Fetch-Dest": "iframe"})
    attributes = set(answer.headers["set-cookie"].lower().split("; ")[1:])
    assert {"samesite=none", "secure", "partitioned", "httponly"} <= attributes


def test_a_person_signs_in_on_the_hub(browser: Browser, url: str) -> None:
    hub = "https://huggingface.co"
    frame = f'<iframe src="{url.replace("127.0.0.1", "localhost")}/" width="900" height="700"></iframe>'
    context = browser.new_context()
    try:
        context.grant_permissions(["local-network-access"], origin=hub)
        page = context.new_page()
        page.route(f"{hub}/**", lambda route: route.fulfill(content_type="text/html", body=frame))
        page.goto(f"{hub}/spaces/a/b")
        space = page.frame_locator("iframe")
        space.get_by_label("Key of this server").fill(KEY)
        space.get_by_role("button", name="Sign in").click()
        space.locator("#budget .budget").wait_for(state="attached")
    finally:
        context.close()


def test_a_person_signs_in(browser: Browser, url: str) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(url)
        page.get_by_label("Key of this server").fill(OTHER)
        page.get_by_role("button").click()
        page.locator("#budget .budget").wait_for(state="attached")
        assert page.url.rstrip("/") == url
    finally:
        context.close()


def test_a_key_has_as_many_answers_at_once_as_allowed(url: str, engine: FakeEngine, image: Path) -> None:
    mine, again, other = (Client(url, headers=bearer(key), verbose=False) for key in (KEY, KEY, OTHER))
    engine.hold()
    try:
        job = mine.submit(handle_file(image), "one two", api_name="/chat")
        next(iter(job))
        with pytest.raises(AppError, match="You have 1 answers running") as refused:
            again.predict(handle_file(image), "three", api_name="/chat")
        assert refused.value.title == "too_many_requests"
        running = other.submit(handle_file(image), "four", api_name="/chat")
        assert next(iter(running)) == "four"
    finally:
        engine.release()
    assert (job.result(timeout=60), running.result(timeout=60)) == ("one two", "four")
    assert again.predict(handle_file(image), "three", api_name="/chat") == "three"


def test_too_many_requests_a_minute_are_refused(web: httpx.Client) -> None:
    """Each key has its own count, and what is only read does not count."""
    for _ in range(41):
        last = web.post("/gradio_api/upload", headers=bearer(OTHER))
    assert last.status_code == 429
    assert last.text.startswith("You have sent 40 requests in a minute")
    assert 0 < int(last.headers["retry-after"]) <= 60
    joined = web.post("/gradio_api/queue/join", headers=bearer(OTHER), json={})
    assert (joined.status_code, joined.json()["code"]) == (429, "too_many_requests")
    assert web.get("/config", headers=bearer(OTHER)).status_code == 200
    assert web.post("/gradio_api/upload", headers=bearer(KEY)).status_code == 400


def test_a_minute_later_requests_are_taken_again() -> None:
    now, statuses = [100.0], list[int]()

    async def app(*_: object) -> None:
        statuses.append(200)

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    limits = RateLimits(app, 2, clock=lambda: now[0])
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "client": ("127.0.0.2", 1)}

    async def post(address: str, seconds: float) -> None:
        now[0] += seconds
        await limits({**scope, "client": (address, 1)}, None, send)  # type: ignore[arg-type]

    async def run() -> None:
        for seconds in (0, 30, 29, 2, 1):
            await post("127.0.0.2", seconds)
        await post("127.0.0.3", 0)

    run_in_thread(run())
    assert statuses == [200, 200, 429, 200, 429, 200]


def test_a_comparison_takes_all_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time, and no further key is left out once one is equal."""
    compared: list[bytes] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append(expected)
        return given == expected

    monkeypatch.setattr(hmac, "compare_digest", compare)
    asked = keys.Keys(None, [KEY, OTHER, "a-third-key-of-all"])  # type: ignore[arg-type]
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    assert asked._find_key({"type": "http", "headers": headers}, "/") == KEY
    assert len(compared) == 3
