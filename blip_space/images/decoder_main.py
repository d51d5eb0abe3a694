"""The program of a decoder process: decodes one file after another until its input ends.

It has no thread, no engine and no connection but its pipes; its server ends it if a file takes too long.
"""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
from contextlib import suppress
from typing import BinaryIO

from blip_space.errors import ImageError
from blip_space.images.announced import MAX_IMAGE_BYTES, check_announced
from blip_space.images.decoder import NO_MEMORY, decode_pixels
from blip_space.images.decoder_messages import (
    DECODE_SECONDS,
    MAX_SENTENCE_BYTES,
    READY,
    Outcome,
    Reply,
    Task,
    pack_error,
    read_exactly,
    read_request,
    write_pixels,
)

MAX_DATA_BYTES = 2 * MAX_IMAGE_BYTES
"""The memory that this process may allocate, with room for an estimate that is too low."""


def main() -> None:
    """Answer every request until the input ends."""
    _limit_resources()
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no library prints into a reply
    replies.write(READY)
    replies.flush()
    with suppress(EOFError, BrokenPipeError):
        while True:
            _answer(requests, replies)
            replies.flush()


def _limit_resources() -> None:
    """Where the system can: bound the memory, and write no core of it if a decoder crashes."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))


def _limit_time() -> None:
    """Where the system can: let it end this process after `DECODE_SECONDS` of processor time from now."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = math.ceil(time.process_time())
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (used + DECODE_SECONDS, hard))


def _answer(requests: BinaryIO, replies: BinaryIO) -> None:
    length, task, resizes = read_request(requests)
    data = read_exactly(requests, length)
    _limit_time()
    try:
        check_announced(data)
        image = decode_pixels(data)
        outputs = [resize.apply(image) for resize in resizes] if task == Task.RESIZE else [image]
    except ImageError as error:
        _write_sentence(replies, Outcome.REJECTED, pack_error(error))
    except MemoryError:
        _write_sentence(replies, Outcome.REJECTED, pack_error(ImageError(NO_MEMORY)))
    except Exception:
        _write_sentence(replies, Outcome.FAILED, traceback.format_exc())
    else:
        replies.write(Reply(Outcome.DECODED, image.size, 0).packed())
        for output in outputs if task != Task.CHECK else ():
            write_pixels(replies, output)


def _write_sentence(replies: BinaryIO, outcome: Outcome, sentence: str) -> None:
    encoded = sentence.encode("utf-8", "replace")[:MAX_SENTENCE_BYTES]
    replies.write(Reply(outcome, (0, 0), len(encoded)).packed() + encoded)
