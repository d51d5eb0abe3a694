"""The files of an upload are counted in every way that it may arrive, and nothing else is in it."""

from __future__ import annotations

import httpx
import pytest

from blip_space.apps.http.upload_parts import MAX_HEADER_BYTES, InvalidPartError, UploadParts

TYPE = "multipart/form-data; boundary=B"


FORM = b"Content-Disposition: form-data; "
FILE = FORM + b'name="files"; filename="a"'


def part(content: bytes = b"an image", header: bytes = FILE) -> bytes:
    """One part of an upload, with the delimiter before it."""
    return b"--B\r\n" + header + b"\r\n\r\n" + content + b"\r\n"


def feed(data: bytes, size: int = 10**6, content_type: str = TYPE) -> tuple[int, bool]:
    """The number of files in these bytes, which arrive in chunks, and whether their end is there."""
    parts = UploadParts(content_type)
    return sum(parts.feed(data[start : start + size]) for start in range(0, len(data), size)), parts.is_closed


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10**6])
def test_files_are_counted_in_chunks_of_any_size(size: int) -> None:
    data = part() + part(b"") + part(b"\r\n--\r\n\r\n-B--\r\n") + b"--B--\r\n"
    assert feed(data, size) == (3, True)


@pytest.mark.parametrize("count", [1, 30])
def test_what_httpx_sends_is_read(count: int) -> None:
    files = [("files", (f'{number} "ü".png', b"an image" * 20, "image/png")) for number in range(count)]
    request = httpx.Request("POST", "http://test", files=files)
    assert feed(request.read(), 64, request.headers["content-type"]) == (count, True)


@pytest.mark.parametrize("data", [
    part(header=FORM + b'name="text"'),
    part(header=FORM + b'name="files"'),
    part(header=FORM + b'name="other"; filename="a"'),
    part(header=FORM + b'name="files"; x="filename="'),
    part(header=FILE + b"\r\n" + FORM + b'name="x"'),
    part(header=b"Content-Type: image/png"), part(header=b""), b"--Bx\r\n\r\n", b"--B \r\n" + part()[5:],
    part(header=FORM + b'name="files"; filename="' + b"a" * MAX_HEADER_BYTES + b'"'),
    b"--B\r\n" + b"a" * (MAX_HEADER_BYTES + 1), part(b"an image--B\r\n" + part()),
])  # fmt: skip
@pytest.mark.parametrize("size", [5, 10**6])
def test_what_is_no_file_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(InvalidPartError):
        feed(part() + data + b"--B--\r\n", size)


@pytest.mark.parametrize("content_type", [
    "", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=B",
    "multipart/form-data; boundary=B; x=y",
    f"multipart/form-data; boundary={'B' * 71}", 'multipart/form-data; boundary="B',
])  # fmt: skip
def test_other_types_are_refused(content_type: str) -> None:
    with pytest.raises(InvalidPartError):
        UploadParts(content_type)


def test_an_upload_without_its_end_is_noticed() -> None:
    assert feed(part()) == (1, False)
    assert feed(part() + b"--B--\r\n" + part()) == (2, False)
