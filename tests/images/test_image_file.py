"""Laws of `ImageFile`: its pixels exist only while it is open, within the decoding budget."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from blip_space import images
from blip_space.errors import ImageError
from blip_space.images import (
    ImageFile,
    SafeImage,
    decode,
    decoder,
)
from blip_space.images.estimates import estimate_decoding_bytes
from tests.images.image_bytes import (
    SIGNATURE,
    chunk,
    disc,
    encoded,
)

LARGEST = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8_000, 8_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")


def test_the_pixels_of_a_file_exist_only_while_it_is_open() -> None:
    data = encoded(disc(), "PNG")
    file = ImageFile(data)
    with file.open() as image:
        assert isinstance(image, SafeImage)
        assert image.pixels.tobytes() == decode(data).pixels.tobytes()
        assert image.digest == file.digest == images.digest(data)
        assert images.DECODING_BUDGET.reserved == estimate_decoding_bytes(data)
    assert images.DECODING_BUDGET.reserved == 0
    with pytest.raises(ValueError, match="closed image"):
        image.pixels.tobytes()
    with file.open() as reopened:
        assert reopened.pixels.size == disc().size


def test_a_digest_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compute, calls = images.digest, list[bytes]()

    def count_calls(data: bytes) -> str:
        calls.append(data)
        return compute(data)

    monkeypatch.setattr(images, "digest", count_calls)
    file = ImageFile(encoded(disc(), "PNG"))
    with file.open() as image:
        assert {file.digest, file.digest, image.digest} == {compute(file.data)}
    assert len(calls) == 1


def test_a_decoded_image_opens_as_itself() -> None:
    image = decode(encoded(disc(), "PNG"))
    with image.open() as open_image:
        assert open_image is image
        assert images.DECODING_BUDGET.reserved == 0
    assert image.pixels.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (ImageFile(b""), r"empty \(0 bytes\)"),
        (ImageFile(bytes(2_500_001), max_bytes=2_500_000), r"larger than 2\.5 MB"),
        (ImageFile(encoded(disc(), "PNG")[:-200]), "damaged or was cut off"),
        (ImageFile(b"no image at all"), "not an image that can be read"),
    ],
    ids=["empty", "large", "damaged", "unsupported"],
)
def test_a_file_that_cannot_be_opened_is_rejected_and_releases_its_memory(file: ImageFile, message: str) -> None:
    with pytest.raises(ImageError, match=message), file.open():
        pytest.fail("it was opened")
    assert images.DECODING_BUDGET.reserved == 0


def test_an_error_of_the_caller_is_raised_and_releases_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="of the caller"), ImageFile(encoded(disc(), "PNG")).open():
        raise RuntimeError("of the caller")
    monkeypatch.setattr(decoder, "_decode", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(ImageError, match="not enough memory"), ImageFile(encoded(disc(), "PNG")).open():
        pytest.fail("it was opened")
    assert images.DECODING_BUDGET.reserved == 0


def test_the_largest_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of them at once took 3 GB."""
    at_once: list[int] = []

    def decode_pixels(_: bytes) -> Image.Image:
        at_once.append(images.DECODING_BUDGET.reserved // estimate_decoding_bytes(LARGEST))
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(images, "decode_pixels", decode_pixels)

    def resize(file: ImageFile) -> None:
        with file.open():
            at_once.append(images.DECODING_BUDGET.reserved // estimate_decoding_bytes(LARGEST))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(resize, [ImageFile(LARGEST)] * 12))
    assert at_once == [1] * 24
