"""The limits that a user of a server meets, for the documents: each with the constant that sets it."""

from __future__ import annotations

from collections.abc import Iterator

Row = tuple[str, str, str]
"""What is limited, by how much, and the code of the error."""


def table() -> str:
    """The limits as a table of Markdown."""
    rows = "\n".join(f"| {what} | {limit} | {f'`{code}`' if code else ''} |" for what, limit, code in _rows())
    return f"| what | at most | code |\n|---|---|---|\n{rows}\n"


def _rows() -> Iterator[Row]:
    yield from _request_rows()
    yield from _share_rows()
    yield from _upload_rows()
    yield from _image_rows()
    yield from _text_rows()
    yield from _batch_rows()
    yield from _time_rows()


def _request_rows() -> Iterator[Row]:
    from blip_space.apps.gradio_api import call_values
    from blip_space.apps.http import body_limits, body_memory

    yield "body of a call", _size(body_limits.CALL_BYTES), "too_large"
    yield "body of a request that contains images as base64", _size(body_limits.DATA_BYTES), "too_large"
    total, share = _size(body_memory.MAX_TOTAL_BYTES), _size(int(body_memory.MAX_SHARE * body_memory.MAX_TOTAL_BYTES))
    yield "such bodies at once, until their answers begin", f"{total}, {share} of one address; others wait", "busy"
    yield "body of any other request", f"{body_limits.SMALL_BYTES // 1024} kB", "too_large"
    yield "brackets, commas and colons of a body", f"{body_limits.MAX_VALUES:,}", "too_large"
    yield "levels of a value", f"{call_values.MAX_DEPTH}", "invalid_value"
    yield "files that a call names", f"{call_values.MAX_FILES:,}", "too_large"


def _share_rows() -> Iterator[Row]:
    from blip_space.apps import server
    from blip_space.apps.gradio_api import queue_shares
    from blip_space.apps.http import connections

    waiting = int(queue_shares.MAX_WAITING_SHARE * server.MAX_QUEUED)
    places = f"{waiting} of the queue's {server.MAX_QUEUED}, and not more than are free"
    yield "calls of one address that wait", places, "busy"
    share = f"{queue_shares.MAX_RUNNING_SHARE:.0%}".replace("%", " %")
    yield "calls of one address that run", f"{share} of those of their kind; others wait", ""
    files = f"{connections.MAX_SHARE:.0%}".replace("%", " %")
    limit = f"{connections.MAX_CONNECTIONS:,}, and {files} of the files that the server may open"
    yield "connections of one address", f"{limit}; a trusted proxy has no limit", "busy"
    yield "a connection without a complete request", f"{connections.HEAD_SECONDS:.0f} s, then it is closed", ""
    yield "a call to which no client listens", f"{queue_shares.LISTEN_SECONDS:.0f} s, then it is ended", ""
    kept = f"{queue_shares.KEEP_SECONDS:.0f} s, of at most {queue_shares.MAX_KEPT_SESSIONS} sessions of one address"
    yield "a result to which no client listens", kept, ""


def _upload_rows() -> Iterator[Row]:
    from blip_space import images
    from blip_space.apps import uploads
    from blip_space.apps.http import upload_limits

    limits, minutes = uploads.LIMITS, uploads.MIN_AGE_SECONDS // 60
    yield "uploaded file", _size(images.MAX_UPLOAD_BYTES), "too_large"
    yield "one upload", f"{_size(limits.request_bytes)} and {limits.request_files} files", "too_large"
    size = f"{_size(limits.caller_bytes)} and {limits.caller_files:,} files; those older than {minutes} minutes"
    yield "uploads of one address on the disk", f"{size} are deleted for new ones", "busy"
    size = f"{_size(limits.total_bytes)} and {limits.total_files:,} files; {_size(limits.free_bytes)} stay free"
    yield "uploads on the disk", size, "disk_full"
    at_once = f"{upload_limits.MAX_CALLER_AT_ONCE} of one address, {upload_limits.MAX_AT_ONCE} in all; others wait"
    yield "uploads at once", at_once, "busy"
    rate = f"{upload_limits.MIN_BYTES_PER_SECOND // 1024} kB a second after {upload_limits.GRACE_SECONDS} s"
    yield "the arrival of an upload", f"{upload_limits.MAX_SECONDS // 60} minutes, and no less than {rate}", "timed_out"


def _image_rows() -> Iterator[Row]:
    from blip_space.images import announced, decoder, decoder_messages, decoding_queue

    yield "image", f"{decoder.MAX_PIXELS // 10**6} megapixels", "too_large"
    yield "JPEG", f"{decoder.MAX_JPEG_PIXELS // 10**6} megapixels", "too_large"
    yield "a side of an image", f"{announced.MAX_SIDE:,} pixels", "too_large"
    yield "memory to decode an image, by its header", _size(announced.MAX_IMAGE_BYTES), "too_large"
    yield "pixels × scans of a progressive JPEG", f"{announced.MAX_SCANNED_PIXELS // 10**6:,} million", "too_large"
    yield "processor time to decode an image", f"{decoder_messages.DECODE_SECONDS} s", "timed_out"
    yield (
        "images decoded at once",
        f"one of a session, one that takes over {_size(decoding_queue.SMALL_IMAGE_BYTES)}",
        "",
    )


def _text_rows() -> Iterator[Row]:
    from blip_space import history, prompts

    yield (
        "prompt",
        f"what fits the model's context window, and {prompts.MAX_PROMPT_CHARACTERS:,} characters",
        ("prompt_too_long"),
    )
    size = f"{history.MAX_MESSAGES:,} messages and {_size(history.MAX_HISTORY_BYTES)}; what does not fit is dropped"
    yield "history", size, "prompt_too_long"


def _batch_rows() -> Iterator[Row]:
    from blip_space.apps.gradio_api import batches
    from blip_space.jobs import upload_archive

    yield "images of a batch", f"{upload_archive.MAX_IMAGES}", "too_large"
    yield "zips of a batch", f"{upload_archive.MAX_ZIPS}", "too_large"
    yield "files in the zips of a batch", f"{upload_archive.MAX_MEMBERS:,}", "too_large"
    yield "a zip's content", _size(upload_archive.MAX_UNPACKED_BYTES), "too_large"
    of_address = batches.MAX_OF_ADDRESS
    yield "batches at once", f"one of a session, {of_address} of one address, {batches.MAX_BATCHES} in all", "busy"


def _time_rows() -> Iterator[Row]:
    from blip_space.apps import page, server, uploads
    from blip_space.apps.http import body_limits
    from blip_space.engine.request import EngineConfig
    from blip_space.serving import queue_limits

    yield "requests in Gradio's queue", f"{server.MAX_QUEUED}", "busy"
    share = f"{queue_limits.MAX_ADDRESS_SHARE:.0%}".replace("%", " %")
    yield "requests in the engine's queue", f"{share} of it for one address", "busy"
    yield "an answer", f"{EngineConfig.timeout_seconds:.0f} s", "timed_out"
    yield "a batch", f"{EngineConfig.background_timeout_seconds / 60:.0f} minutes", "timed_out"
    yield "the arrival of another request", f"{body_limits.BODY_SECONDS} s", "timed_out"
    yield "an upload's stay on the disk", f"{(uploads.MAX_AGE_SECONDS + page.CLEANUP_SECONDS) // 3600} hours", ""


def _size(count: int) -> str:
    return f"{count / 10**9:g} GB" if count >= 10**9 else f"{count / 10**6:g} MB"
