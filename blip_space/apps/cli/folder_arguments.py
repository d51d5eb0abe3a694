"""What `python -m blip_space folder` takes, and what a person can have got wrong in it.

Depends on arguments alone; must not import anything that loads models or reads images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from blip_space import catalogue, images, languages, options
from blip_space.engine.request import check_language
from blip_space.errors import UserError
from blip_space.jobs.outputs.output_files import FORMATS, SINGLE_CAPTION_FORMATS

EXISTING = ("skip", "overwrite", "append")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `folder` takes, apart from the model and how captions are decoded."""
    add = parser.add_argument
    add("folder", metavar="DIR", type=Path, help=f"images ({images.FORMAT_NAMES})")
    add("--output", metavar="FILE", type=Path, required=True, help="one JSON object a line, appended")
    add("--recursive", action="store_true", help="look into its folders as well")
    add("--glob", metavar="PATTERN", help="take the images whose names match, such as '*.jpg'")
    add("--language", metavar="CODE,CODE", default="en", help="a caption in each (default en)")
    add("--prompt", default="", help="what is asked of each image; nothing asks for a caption")
    add("--batch-size", metavar="N", default="auto", help="captions written at once (default auto)")
    add("--format", choices=FORMATS, default="jsonl", help="what is made of the lines at the end (default jsonl)")
    add("--extension", metavar="ENDING", default=".txt", help="of text files beside images (default .txt)")
    add("--prefix", default="", help="before each caption in a text file")
    add("--suffix", default="", help="after it")
    add("--existing", choices=EXISTING, default="skip", help="what becomes of lines that are there (default skip)")
    add("--overwrite-edited", action="store_true", help="write over texts and tables that a person made or edited")
    add("--retry-errors", action="store_true", help="try again what failed before")
    add("--limit", metavar="N", type=int, help="no more images than so many")
    add("--workers", metavar="N", type=int, default=2, help="threads that read images (default 2)")
    add("--json", action="store_true", help="progress as one JSON object a line")
    add("--ray", metavar="ADDRESS", help="on a Ray cluster: its HOST:PORT, auto, or local")


def add_decoding_options(
    parser: argparse.ArgumentParser, *, quality: options.Quality, max_new_tokens: int | None
) -> None:
    """How an answer is written, for every command that writes one; `max_new_tokens` is the default where it differs."""
    text = "best: beam search" if quality == "best" else "best: beam search, no stream"
    parser.add_argument("--quality", choices=("stream", "best"), default=quality, help=f"{text} (default {quality})")
    for name, limits in options.RANGES.items():
        kind = int if limits.is_integer else float
        text = f"from {limits.low:g} to {limits.high:.10g}"
        default = max_new_tokens if name == "max_new_tokens" else None
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=kind, default=default, help=text)


def parse_decoding(given: argparse.Namespace) -> options.GenerationOptions:
    """`UserError` for a number that makes no sense."""
    chosen = {name: value for name in options.RANGES if (value := getattr(given, name)) is not None}
    return options.check(quality=given.quality, **chosen)


def parse_languages(given: argparse.Namespace, spec: catalogue.ModelSpec) -> list[str]:
    """The codes, each once. `UserError` for one that the model does not support, or too many for the format."""
    codes = [code.strip() for code in given.language.split(",") if code.strip()]
    for code in codes:
        languages.find_language(code)
        check_language(spec, code)
    if not codes:
        raise UserError("--language names no language. Leave it out for English, or name one such as de.")
    if given.format in SINGLE_CAPTION_FORMATS and len(set(codes)) > 1:
        raise UserError(
            f"--format {given.format} holds one caption a picture. Name one --language, or choose another format."
        )
    return list(dict.fromkeys(codes))


def parse_limit(limit: int | None) -> int | None:
    """`UserError` for less than one."""
    if limit is not None and limit < 1:
        raise UserError("--limit must be at least 1.")
    return limit


def parse_batch_size(text: str) -> int | None:
    """None for `auto`; `UserError` for what is neither that nor a number."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 1024):
        raise UserError("--batch-size must be auto or a whole number from 1 to 1024.")
    return int(text)
