"""Decoding shares one budget of memory: large images one after the other, small ones beside them."""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image, features

from blip_space import images
from blip_space.errors import ImageError
from blip_space.images import MAX_DECODING_BYTES, MAX_PIXELS, ImageFile, SafeImage, budget, decode, decoder, flattening
from blip_space.images.budget import DecodingBudget
from blip_space.images.estimates import decoding_bytes
from tests.images.image_bytes import SIGNATURE, chunk, disc, encoded, exif, noise, with_size

LARGEST = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8_000, 8_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")


class Held:
    """Reservations of threads of their own, each until it is told to end."""

    def __init__(self, stack: ExitStack, shared: DecodingBudget) -> None:
        self._shared = shared
        self._ends: list[tuple[Event, Thread]] = []
        self.given: list[int] = []
        stack.callback(self.end)

    def take(self, size: int) -> Callable[[], None]:
        """Ask for so much; the call that comes back ends it."""
        begun, end = Event(), Event()

        def hold() -> None:
            with self._shared.reserve(size):
                self.given.append(size)
                begun.set()
                end.wait(10)

        before = self._shared.waiting
        thread = Thread(target=hold)
        self._ends.append((end, thread))
        thread.start()
        while not (begun.is_set() or self._shared.waiting > before):
            pass

        def stop() -> None:
            end.set()
            thread.join(10)

        return stop

    def end(self) -> None:
        for end, _ in self._ends:
            end.set()
        for _, thread in self._ends:
            thread.join(10)


@pytest.fixture
def shared() -> DecodingBudget:
    return DecodingBudget(100)


@pytest.fixture
def held(shared: DecodingBudget) -> Iterator[Held]:
    with ExitStack() as stack:
        yield Held(stack, shared)
    assert (shared.reserved, shared.waiting) == (0, 0)


def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        pass


def test_a_second_large_one_waits_and_small_ones_go_ahead_as_far_as_there_is_room(
    shared: DecodingBudget, held: Held
) -> None:
    end_first = held.take(80)
    held.take(80)
    held.take(15)
    held.take(15)
    assert (held.given, shared.reserved, shared.waiting) == ([80, 15], 95, 2)
    end_first()
    wait_until(lambda: len(held.given) == 3)
    assert (held.given, shared.reserved, shared.waiting) == ([80, 15, 80], 95, 1)


def test_one_that_is_larger_than_the_budget_is_let_in_alone(shared: DecodingBudget, held: Held) -> None:
    end_small = held.take(1)
    held.take(150)
    assert (held.given, shared.waiting) == ([1], 1)
    end_small()
    wait_until(lambda: len(held.given) == 2)
    held.take(1)
    assert (held.given, shared.waiting) == ([1, 150], 1)


def test_a_large_one_is_not_overtaken_for_ever(
    shared: DecodingBudget, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_OVERTAKEN", 3)
    end_first = held.take(50)
    held.take(80)
    ends = [held.take(1) for _ in range(5)]
    assert (held.given, shared.waiting) == ([50, 1, 1, 1], 3)
    for end in [*ends[:3], end_first]:
        end()
    wait_until(lambda: len(held.given) == 7)
    assert (sorted(held.given[4:]), shared.waiting) == ([1, 1, 80], 0)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_it_the_reservation_is_given_back(shared: DecodingBudget, error: type[BaseException]) -> None:
    with pytest.raises(error), shared.reserve(100):
        raise error
    assert shared.reserved == 0


def test_a_wait_that_was_interrupted_is_forgotten(
    shared: DecodingBudget, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be given room that nobody gives back."""

    def interrupt(_: Callable[[], bool]) -> None:
        raise KeyboardInterrupt

    end_first = held.take(80)
    monkeypatch.setattr(shared._changed, "wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt), shared.reserve(90):
        pytest.fail("it was given")
    assert shared.waiting == 0
    end_first()
    assert shared.reserved == 0


def test_a_file_is_decoded_as_ever_and_only_while_it_is_open() -> None:
    data = encoded(disc(), "PNG")
    file = ImageFile(data)
    with file.open() as image:
        assert isinstance(image, SafeImage)
        assert image.pixels.tobytes() == decode(data).pixels.tobytes()
        assert image.digest == file.digest == images.digest(data)
        assert images.DECODING.reserved == decoding_bytes(data)
    assert images.DECODING.reserved == 0
    with pytest.raises(ValueError, match="closed image"):
        image.pixels.tobytes()
    with file.open() as again:
        assert again.pixels.size == disc().size


def test_a_digest_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compute, calls = images.digest, list[bytes]()

    def counted(data: bytes) -> str:
        calls.append(data)
        return compute(data)

    monkeypatch.setattr(images, "digest", counted)
    file = ImageFile(encoded(disc(), "PNG"))
    with file.open() as image:
        assert {file.digest, file.digest, image.digest} == {compute(file.data)}
    assert len(calls) == 1


def test_a_decoded_image_opens_as_itself() -> None:
    image = decode(encoded(disc(), "PNG"))
    with image.open() as opened:
        assert opened is image
        assert images.DECODING.reserved == 0
    assert image.pixels.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (ImageFile(b""), r"empty \(0 bytes\)"),
        (ImageFile(bytes(2_500_001), max_bytes=2_500_000), r"larger than 2\.5 MB"),
        (ImageFile(encoded(disc(), "PNG")[:-200]), "damaged or was cut off"),
        (ImageFile(b"no image at all"), "not a picture that can be read"),
    ],
    ids=["empty", "large", "damaged", "another"],
)
def test_what_cannot_be_opened_is_told_and_gives_back_what_it_reserved(file: ImageFile, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence), file.open():
        pytest.fail("it was opened")
    assert images.DECODING.reserved == 0


def test_an_error_of_whoever_opened_it_passes_and_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="theirs"), ImageFile(encoded(disc(), "PNG")).open():
        raise RuntimeError("theirs")
    monkeypatch.setattr(decoder, "_decoded", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(ImageError, match="not enough memory"), ImageFile(encoded(disc(), "PNG")).open():
        pytest.fail("it was opened")
    assert images.DECODING.reserved == 0


def test_the_largest_images_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of them at once took 3 GB."""
    at_once: list[int] = []

    def decode_pixels(_: bytes) -> Image.Image:
        at_once.append(images.DECODING.reserved // decoding_bytes(LARGEST))
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(images, "decode_pixels", decode_pixels)

    def resize(file: ImageFile) -> None:
        with file.open():
            at_once.append(images.DECODING.reserved // decoding_bytes(LARGEST))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(resize, [ImageFile(LARGEST)] * 12))
    assert at_once == [1] * 24


SQUARE = disc((300, 200))
FORMATS = {
    "JPEG": (encoded(SQUARE, "JPEG"), 8),
    "progressive JPEG": (encoded(SQUARE, "JPEG", progressive=True), 8 + 2 * 3),
    "PNG": (encoded(SQUARE, "PNG"), 8),
    "GIF": (encoded(SQUARE, "GIF"), 8),
    "BMP": (encoded(SQUARE, "BMP"), 8),
    "TIFF": (encoded(SQUARE, "TIFF"), 9),
    "lossy WebP": (encoded(SQUARE, "WEBP"), 17),
    "lossless WebP": (encoded(SQUARE, "WEBP", lossless=True), 17),
    "WebP with EXIF": (encoded(SQUARE, "WEBP", exif=exif()), 17),
    "AVIF": (encoded(SQUARE, "AVIF") if features.check("avif") else b"", 13),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_memory_of_decoding_is_estimated_by_the_header(kind: str) -> None:
    data, bytes_per_pixel = FORMATS[kind]
    if data:
        assert decoding_bytes(data) == 300 * 200 * bytes_per_pixel


def test_of_a_large_jpeg_its_reduced_size_counts() -> None:
    jpeg = with_size(encoded(SQUARE, "JPEG"), 16_000, 12_000)
    assert decoding_bytes(jpeg) == 2_000 * 1_500 * 8
    assert decoding_bytes(with_size(encoded(SQUARE, "JPEG", progressive=True), 12_000, 9_000)) > 108_000_000 * 6


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 99, b"\xff\xd8\xff", SIGNATURE, b"GIF89a", b"BM", b"RIFF1234WEBPVP8 ", b"II*\0" + bytes(20)],
)
def test_what_says_no_size_is_taken_for_the_largest(data: bytes) -> None:
    assert decoding_bytes(data) >= 64_000_000 * 17


def test_what_is_larger_than_the_limit_counts_as_the_limit() -> None:
    forged = LARGEST.replace(struct.pack(">II", 8_000, 8_000), struct.pack(">II", 2**31, 2**31))
    assert decoding_bytes(forged) == decoding_bytes(LARGEST) == 8 * MAX_PIXELS
    assert 2 * decoding_bytes(LARGEST) > MAX_DECODING_BYTES > decoding_bytes(LARGEST)


def _modes() -> dict[str, Image.Image]:
    picture = noise()
    clear = picture.convert("RGBA")
    clear.putalpha(picture.convert("L"))
    deep = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    palette = picture.convert("P")
    modes = {mode: picture.convert(mode) for mode in ("1", "L", "RGB", "CMYK", "YCbCr", "HSV", "F", "I")}
    modes |= {"P": palette, "RGBA": clear, "LA": clear.convert("LA"), "PA": clear.convert("PA"), "I;16": deep}
    for mode, transparency in {"L": 100, "RGB": picture.getpixel((3, 3)), "P": 7, "I;16": 100 * 257}.items():
        modes[f"{mode} with a clear colour"] = modes[mode].copy()
        modes[f"{mode} with a clear colour"].info["transparency"] = transparency
    modes["P with clear colours"] = palette.copy()
    modes["P with clear colours"].info["transparency"] = bytes(range(256))
    return modes


MODES = _modes()


@pytest.mark.parametrize("pieces", [40, 200])
@pytest.mark.parametrize("mode", MODES)
def test_pixels_do_not_depend_on_the_pieces_they_are_converted_in(
    monkeypatch: pytest.MonkeyPatch, mode: str, pieces: int
) -> None:
    whole = flattening.flat(MODES[mode].copy())
    monkeypatch.setattr(flattening, "PIECE_PIXELS", pieces)
    assert flattening.flat(MODES[mode].copy()).tobytes() == whole.tobytes()
    assert (whole.mode, whole.size) == ("RGB", MODES[mode].size)


PROGRAM = """
import sys
from threading import Thread
from PIL import Image
from blip_space.images import DECODING, ImageFile
from blip_space.images.estimates import decoding_bytes
from blip_space.models.image_processor import ImageProcessor

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

frame, data = ImageProcessor(224), open(sys.argv[1], "rb").read()
frame.pixels([Image.new("RGB", (300, 300))])
DECODING.max_bytes = 1  # one at a time
before = peak()

def work():
    with ImageFile(data).open() as image:
        frame.pixels([image.pixels])

threads = [Thread(target=work) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print((peak() - before) / 16e6, decoding_bytes(data) / 16e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what the peak was")
@pytest.mark.parametrize(
    ("mode", "threads", "most"),
    [("RGB", 1, 5), ("P", 1, 6), ("RGBA", 1, 9), ("I;16", 1, 7), ("RGB", 4, 6), ("RGBA", 4, 10)],
)
def test_no_copy_is_made_that_is_not_needed_and_none_is_kept(
    tmp_path: Path, mode: str, threads: int, most: float
) -> None:
    """They took 8, 8, 16 and 14 bytes a pixel, and several threads more, though they decode one after the other."""
    grey = Image.linear_gradient("L").resize((4_000, 4_000))
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "large.png", compress_level=1)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "large.png"), str(threads)]
    taken, estimated = map(float, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert taken <= most
    assert taken <= estimated * 1.2
