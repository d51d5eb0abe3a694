"""The page and its files as a browser receives them: compressed, kept by server and browser, the same for each user."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from blip_space.apps.http import page_files
from tests.security.coroutines import run_in_thread

FONT = "/static/fonts/SourceSansPro/SourceSansPro-Regular.woff2"


def script_of(page: httpx.Client) -> str:
    """The address of the script that the page starts with."""
    found = re.search(r'src="\./(assets/index-\w+\.js)"', page.get("/").text)
    assert found
    return f"/{found[1]}"


@pytest.mark.parametrize("encoding", ["br", "gzip", "identity"])
def test_a_file_is_the_same_each_time_in_each_compression(web: httpx.Client, encoding: str) -> None:
    path = script_of(web)
    plain = web.get(path, headers={"Accept-Encoding": "identity"})
    first, second = (web.get(path, headers={"Accept-Encoding": encoding}) for _ in range(2))
    assert first.content == second.content == plain.content
    assert second.headers.get("content-encoding", "identity") == encoding
    assert second.headers["content-type"] == plain.headers["content-type"]
    assert int(second.headers["content-length"]) <= len(plain.content)


def test_browsers_keep_the_files(web: httpx.Client) -> None:
    path = script_of(web)
    for _ in range(2):
        assert "immutable" in web.get(path).headers["cache-control"]
        assert "max-age" in web.get(FONT).headers["cache-control"]
    assert "immutable" not in web.get("/assets/no-such-file.js").headers.get("cache-control", "")


def test_a_part_of_a_file_and_its_head_are_no_whole_file(web: httpx.Client) -> None:
    whole = web.get(FONT).content
    part = web.get(FONT, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert web.get(FONT).content == whole


def test_files_are_read_once_while_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_files, "MAX_BYTES", 2_500)
    monkeypatch.setattr(page_files, "MAX_FILE_BYTES", 2_000)
    read: list[str] = []

    async def files(request: Request) -> Response:
        read.append(request.path_params["name"])
        return Response(b"x" * int(request.path_params["name"]), status_code=200)

    app = page_files.PageFiles(Starlette(routes=[Route("/assets/{name}", files)]))

    async def get_all(names: list[str]) -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [len((await client.get(f"/assets/{name}")).content) for name in names]

    names = ["1000", "1000", "1200", "1000", "3000", "3000", "1100", "1200", "1100"]
    assert run_in_thread(get_all(names)) == [int(name) for name in names]
    assert read == ["1000", "1200", "3000", "3000", "1100", "1200"]  # too large, and, when full, all again


def test_the_page_is_compressed_and_leaves_out_what_only_calls_need(web: httpx.Client) -> None:
    for _ in range(2):
        page = web.get("/", headers={"Accept-Encoding": "gzip, br"})
        assert page.headers["content-encoding"] == "gzip"
        assert page.num_bytes_downloaded < 120_000
    start = page.text.index("window.gradio_config = ") + len("window.gradio_config = ")
    shown, whole = json.JSONDecoder().raw_decode(page.text, start)[0], web.get("/config").json()
    assert [one["api_name"] for one in shown["dependencies"]] == [one["api_name"] for one in whole["dependencies"]]
    labels = {one["props"].get("label") for one in whole["components"] if one not in shown["components"]}
    assert "earlier turns, oldest first" in labels
    assert web.get("/", headers={"Accept-Encoding": "identity"}).text == page.text


def test_each_address_and_language_has_its_own_page(web: httpx.Client) -> None:
    for host in ("one.example", "two.example", "one.example"):
        headers = {"X-Forwarded-Host": host, "X-Forwarded-Proto": "https", "Accept-Language": "de"}
        page = web.get("/", headers=headers)
        assert f'"root":"https://{host}"' in page.text.replace('": "', '":"')
        assert '<html lang="de"' in page.text
    assert '<html lang="ja"' in web.get("/", headers={"Accept-Language": "ja"}).text
