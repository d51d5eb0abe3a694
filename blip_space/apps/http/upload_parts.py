"""Counts the files of an upload while it arrives, and accepts nothing else in it.

Gradio keeps the text of a form's fields in memory, and files under any other name than `files` for ever. No client
sends either. Follows RFC 7578; depends on bytes only.
"""

from __future__ import annotations

import re

CONTENT_TYPE = re.compile(r'multipart/form-data;\s*boundary=("?)([0-9A-Za-z\'()+_,./:=?-]{1,70})\1\s*', re.IGNORECASE)
DISPOSITION = re.compile(rb'content-disposition:\s*form-data;\s*name="files";\s*filename="', re.IGNORECASE)
MAX_HEADER_BYTES = 8_192


class InvalidPartError(Exception):
    """An upload has something else than files."""


class UploadParts:
    """The parts of one upload. Every line that may be a delimiter counts as one, so no file is missed."""

    def __init__(self, content_type: str) -> None:
        """Raises `InvalidPartError` if it is not the type of an upload."""
        match = CONTENT_TYPE.fullmatch(content_type)
        if match is None:
            raise InvalidPartError
        self._delimiter = b"--" + match[2].encode()
        self._rest = b""
        self.is_closed = False

    def feed(self, chunk: bytes) -> int:
        """How many files begin in the next bytes. Raises `InvalidPartError` for a part that is no file."""
        data, position, files = self._rest + chunk, 0, 0
        while (start := data.find(self._delimiter, position)) >= 0:
            after = start + len(self._delimiter)
            if data.startswith(b"--", after):
                self.is_closed, position = True, after
                continue
            end = data.find(b"\r\n\r\n", after)
            if end < 0 and len(data) - after <= MAX_HEADER_BYTES:
                break
            if end < 0:
                raise InvalidPartError
            self._check(data[after:end])
            files, position, self.is_closed = files + 1, end + 4, False
        self._rest = data[start:] if start >= 0 else data[max(position, len(data) - len(self._delimiter) + 1) :]
        return files

    def _check(self, headers: bytes) -> None:
        first, *lines = headers.split(b"\r\n")
        names = [line for line in lines if line.lower().startswith(b"content-disposition:")]
        is_file = not first and len(names) == 1 and DISPOSITION.match(names[0])
        if not is_file or self._delimiter in headers or len(headers) > MAX_HEADER_BYTES:
            raise InvalidPartError
