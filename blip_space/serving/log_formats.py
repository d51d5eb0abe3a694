"""The log of a server, as text or as one JSON object on each line, in this process and in that of an engine.

Depends on logging only.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"
JSON = "json"
ANSWERS = "blip_space.serving.observed"
"""The logger with a line for each answer."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line: its time, level, logger and message, the fields of an answer, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "answer", {})
        if record.exc_info and record.exc_info[1]:
            line |= {"error": type(record.exc_info[1]).__name__, "traceback": self.formatException(record.exc_info)}
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(log_format: str) -> None:
    """Write the log of this process to stderr in that format; as JSON with a line for each answer."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == JSON else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(handlers=[handler])
    logging.getLogger(ANSWERS).setLevel(logging.INFO if log_format == JSON else logging.WARNING)
    if log_format == JSON:
        logging.captureWarnings(True)


def adopt(name: str) -> None:
    """Let a library's logger write by the handlers of the root logger instead of its own."""
    logger = logging.getLogger(name)
    logger.handlers.clear()
    logger.propagate = True


def current() -> str:
    """The format that `configure` was called with."""
    is_json = any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
    return JSON if is_json else "text"
