"""Laws of decoder processes: they decode as this process does, and are replaced if they hang or crash."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from blip_space import images
from blip_space.callers import UNKNOWN, Caller
from blip_space.errors import ImageError
from blip_space.images import ImageFile, Resize, uploaded
from blip_space.images.decoder_messages import (
    MAX_VALUE_CHARACTERS,
    MAX_VALUES,
    STRIP_PIXELS,
    Task,
    pack_error,
    unpack_error,
)
from blip_space.images.decoder_pool import DecoderPool
from blip_space.images.uploaded import UploadedImageFile
from tests.images.image_bytes import disc, encoded, exif, noise, with_size

RESIZES = (Resize(32, 24, Image.Resampling.BILINEAR), Resize(16, 16, Image.Resampling.BICUBIC, 0.875))
FILES = {
    "PNG": encoded(noise(), "PNG"),
    "transparent": encoded(disc().convert("LA"), "PNG"),
    "rotated JPEG": encoded(noise(), "JPEG", exif=exif(6)),
    "several strips": encoded(Image.effect_noise((1_200, STRIP_PIXELS // 600), 90).convert("RGB"), "BMP"),
    "a long row": encoded(Image.new("RGB", (30_000, 1), "red"), "PNG"),
}
PATCHED = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from blip_space.images import decoder_main
decode = decoder_main.decode_pixels
def decode_or_not(data):
    image = decode(data)
    if image.width == 11:
        threading.Event().wait()
    if image.width == 12:
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.width == 13:
        raise RuntimeError("a bug")
    while image.width == 14:
        pass
    return image
decoder_main.decode_pixels = decode_or_not
decoder_main.DECODE_SECONDS = 1
decoder_main.main()
"""
"""A decoder that hangs, crashes or raises at harmless images of certain widths."""

HANGS, CRASHES, FAILS, COMPUTES = (encoded(disc((width, 9)), "PNG") for width in (11, 12, 13, 14))
NORMAL = encoded(disc(), "PNG")
SECONDS = 120.0
"""More than a busy machine takes to start a decoder."""


@pytest.fixture(scope="module")
def running() -> Iterator[DecoderPool]:
    pool = DecoderPool(1, seconds=SECONDS, program=PATCHED)
    yield pool
    pool.stop()


@pytest.fixture
def pool(running: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> DecoderPool:
    monkeypatch.setattr(uploaded, "POOL", running)
    monkeypatch.setattr(images, "decode_pixels", lambda _: pytest.fail("it was decoded in this process"))
    return running


@pytest.mark.parametrize("name", FILES)
def test_an_upload_is_decoded_as_other_files_are(pool: DecoderPool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with UploadedImageFile(FILES[name]).open() as image:
        size, digest, pixels = image.size, image.digest, image.pixels.tobytes()
    with UploadedImageFile(FILES[name]).open(RESIZES) as image:
        assert image.size == size
        resized = [part.tobytes() for part in image.resized]
    monkeypatch.undo()
    with ImageFile(FILES[name]).open() as expected:
        assert (size, digest, pixels) == (expected.size, expected.digest, expected.pixels.tobytes())
        assert resized == [resize.apply(expected.pixels).tobytes() for resize in RESIZES]
        assert resized[0] == expected.pixels.resize((32, 24), Image.Resampling.BILINEAR).tobytes()
    assert pool.queue.waiting == 0


@pytest.mark.parametrize("data", [
    b"", bytes(20_000_001), b"no image", encoded(noise(), "PNG")[:-500],
    with_size(encoded(disc(), "JPEG"), 16_000, 13_000),
])  # fmt: skip
def test_an_upload_is_rejected_as_other_files_are(
    pool: DecoderPool, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reject in (UploadedImageFile(data).check, UploadedImageFile(data).open().__enter__):
        with pytest.raises(ImageError) as raised:
            reject()
    monkeypatch.undo()
    with pytest.raises(ImageError) as expected:
        ImageFile(data).check()
    assert (str(raised.value), raised.value.code) == (str(expected.value), expected.value.code)
    assert pool.queue.waiting == 0


def test_a_decoder_that_takes_too_long_is_ended_and_replaced(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    UploadedImageFile(NORMAL).check()
    (pid,) = pool.pids
    monkeypatch.setattr(pool, "_seconds", 0.5)
    with pytest.raises(ImageError, match="took more than 10 s to decode"):
        UploadedImageFile(HANGS).check()
    assert pid not in pool.pids
    monkeypatch.setattr(pool, "_seconds", SECONDS)
    UploadedImageFile(NORMAL).check()


@pytest.mark.usefixtures("pool")
def test_a_decoder_that_computes_too_long_is_ended_by_the_system() -> None:
    with pytest.raises(ImageError, match="took more than 10 s to decode") as raised:
        UploadedImageFile(COMPUTES).check()
    assert raised.value.code == "timed_out"
    UploadedImageFile(NORMAL).check()


@pytest.mark.usefixtures("pool")
def test_a_crash_of_a_decoder_is_a_sentence() -> None:
    with pytest.raises(ImageError, match="ended the process that decodes images"):
        UploadedImageFile(CRASHES).check()
    UploadedImageFile(NORMAL).check()


@pytest.mark.usefixtures("pool")
def test_a_bug_in_a_decoder_has_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="decode_or_not"):
        UploadedImageFile(FAILS).check()
    UploadedImageFile(NORMAL).check()


def test_an_image_that_waits_is_not_in_memory(tmp_path: Path, pool: DecoderPool) -> None:
    (tmp_path / "a.png").write_bytes(NORMAL)
    file = UploadedImageFile(tmp_path / "a.png", caller=Caller("127.0.0.2", "one"))
    assert not any(isinstance(value, bytes) for value in vars(file).values())
    with file.open() as image:
        assert image.size == disc().size
    for sent in (pickle.loads(pickle.dumps(file)), file.with_bytes()):
        assert (sent.data, sent.digest, sent.caller) == (NORMAL, file.digest, file.caller)
    assert len(pickle.dumps(file)) < 1_000
    (tmp_path / "a.png").unlink()
    assert file.digest == sent.digest
    sent.check()
    with pytest.raises(ImageError, match="not on the server any more") as deleted:
        file.check()
    assert deleted.value.code == "not_uploaded"
    assert pool.queue.waiting == 0


def test_stopping_ends_the_processes() -> None:
    pool = DecoderPool(1)
    with pool.open(lambda: NORMAL, UNKNOWN, 1, Task.CHECK):
        (pid,) = pool.pids
    pool.stop()
    assert not pool.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_error_travels_with_what_a_translation_names() -> None:
    sent = ImageError("It has\n144 megapixels.", code="too_large", detail="pixels", values={"megapixels": 64})
    error = unpack_error(pack_error(sent))
    assert (str(error), error.code, error.detail) == (str(sent), "too_large", "pixels")
    assert error.values == {"megapixels": 64}


@pytest.mark.parametrize("header", ["", "[]", "{", "[" * 9_000, '{"code": "root", "detail": "../x", "values": [1]}'])
def test_what_a_decoder_may_not_say_about_an_error_is_left_out(header: str) -> None:
    error = unpack_error(f"{header}\nIt is damaged.")
    assert (str(error), error.code, error.detail, dict(error.values)) == ("It is damaged.", "unreadable_image", "", {})


def test_the_values_of_an_error_are_few_and_short() -> None:
    values = {**{f"a{number}": number for number in range(20)}}
    header = json.dumps({"values": {"format": "x" * 1_000, "not a name": 1, "nested": [1], **values}})
    error = unpack_error(f"{header}\n")
    assert len(error.values) <= MAX_VALUES
    assert error.values["format"] == "x" * MAX_VALUE_CHARACTERS
    assert {"not a name", "nested"}.isdisjoint(error.values)
