"""The headers of each response, by which browsers protect it, and the routes that are closed."""

from __future__ import annotations

import httpx
import pytest

from blip_space.apps.http import security_headers
from tests.example_images import blue_circles


@pytest.mark.parametrize("path", ["/", "/config", "/healthz", "/nothing", "/gradio_api/file=https://example.com/"])
def test_every_response_has_the_headers(web: httpx.Client, path: str) -> None:
    headers = web.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'self' https://huggingface.co" in headers["content-security-policy"] or "file=" in path


def test_an_uploaded_file_runs_nothing(web: httpx.Client) -> None:
    (path,) = web.post("/gradio_api/upload", files={"files": ("a.png", blue_circles())}).json()
    answer = web.get(f"/gradio_api/file={path}")
    assert (answer.status_code, answer.content) == (200, blue_circles())
    assert answer.headers["content-security-policy"] == security_headers.FILE_POLICY
    assert len(answer.headers.get_list("content-security-policy")) == 1


def test_no_other_site_is_allowed_to_read(web: httpx.Client) -> None:
    """Gradio allows every origin, with credentials, under any host name but localhost."""
    headers = {"Origin": "https://other.example", "Host": "blip.example"}
    for answer in (
        web.get("/config", headers=headers),
        web.options("/gradio_api/queue/join", headers=headers | {"Access-Control-Request-Method": "POST"}),
        web.post("/gradio_api/queue/join", headers=headers, json={}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_another_sites_page_cannot_send(web: httpx.Client) -> None:
    files = {"files": ("a.png", blue_circles())}
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        answer = web.post("/gradio_api/upload", files=files, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status
    assert web.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link leads here


@pytest.mark.parametrize("address", [
    "https://example.com/a.png", "HTTP://127.0.0.1/a", "%20https://example.com", "ftp:example.com", "//example.com/a",
    "file:///etc/passwd",
])  # fmt: skip
def test_a_url_is_not_fetched(web: httpx.Client, address: str) -> None:
    for form in ("file=", "file/"):
        answer = web.get(f"/gradio_api/{form}{address}")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("path", [
    "monitoring", "monitoring/summary", "monitoring/key", "openapi.json", "gradio_api/openapi.json", "gradio_api/runs",
    "gradio_api/proxy=https://example.com", "gradio_api/component_server", "gradio_api/deep_link?session_hash=a",
    "gradio_api/stream/a", "gradio_api/vibe-edit", "gradio_api/process_recording", "gradio_api/dev/reload",
])  # fmt: skip
def test_what_is_not_used_is_closed(web: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        answer = web.request(method, f"/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
