"""The command line: `ask`, `caption`, `folder`, `models`, `languages`, `serve`.

Knows arguments, streams and exit codes. A person's mistake is one line on stderr and exit code 1, wrong usage is 2.
torch and Gradio are imported by the commands that need them, so that the others answer at once.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip_space import __version__, catalogue, images, languages, options, settings
from blip_space.apps.cli import folder, listing
from blip_space.apps.cli.folder_arguments import add_arguments, add_decoding_options, parse_decoding
from blip_space.apps.cli.listing import print_json
from blip_space.apps.cli.progress_bar import print_load_progress
from blip_space.engine.request import Request, check_language
from blip_space.errors import UserError
from blip_space.history import HISTORY_FORMAT, Turn, parse_history
from blip_space.jobs.folder_listing import printable_name

if TYPE_CHECKING:
    from blip_space.engine.local import LocalEngine

FOR_PHOTOGRAPHS = f"For photographs choose another, such as --model {catalogue.most_multilingual_model()}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    _print_any_name()
    given = _parser().parse_args(arguments)
    settings.prepare_libraries()
    command: Callable[[argparse.Namespace], int] = given.command
    if command is not serve and not logging.getLogger("blip_space").handlers:
        logging.getLogger("blip_space").addHandler(_Lines())  # a server has a log of its own
    try:
        return command(given)
    except UserError as error:
        print(f"blip-space: {settings.with_origin(str(error), vars(given))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; Python would complain about it once more
        return 0


class _Lines(logging.Handler):
    """Shows what the program logs as lines of its own on stderr, wherever that leads now."""

    def emit(self, record: logging.LogRecord) -> None:
        fault = (
            f" ({record.exc_info[0].__name__}: {record.exc_info[1]})" if record.exc_info and record.exc_info[0] else ""
        )
        print(f"blip-space: {record.getMessage()}{fault}", file=sys.stderr, flush=True)


def _print_any_name() -> None:
    """Have every script and every file's name printed: a pipe of Windows' has a code page, and names are bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def ask(given: argparse.Namespace) -> int:
    """Stream the answer to a question about one picture."""
    request = Request(
        image=images.decode(given.image, max_bytes=images.MAX_FILE_BYTES),
        prompt=given.prompt,
        language=given.language,
        turns=_history(given.history),
        options=parse_decoding(given),
    )
    engine = _load(given)
    started, written = time.monotonic(), ""
    reply = engine.generate(request)
    del request  # the engine keeps what it needs of the image
    for text in reply:
        if not given.json:
            _show(text, written)
        written = text
    if given.json:
        about = _record(engine, given, started)
        print_json(file=printable_name(given.image), prompt=given.prompt, reply=written, repeats=reply.repeats, **about)
    else:
        print()
    if written in engine.model.spec.unknown_image_replies:
        print(f"blip-space: {engine.model.spec.name} knows drawings only. {FOR_PHOTOGRAPHS}", file=sys.stderr)
    return 0


def caption(given: argparse.Namespace) -> int:
    """One line an image; one that cannot be read or captioned is told on stderr and the others go on."""
    languages.find_language(given.language)
    decoding = parse_decoding(given)
    engine, failed = _load(given), False
    for name, image, error in _pictures(given.images):
        started, text, repeats = time.monotonic(), None, False
        if image is not None:
            try:
                reply = engine.generate(Request(image, language=given.language, options=decoding))
                *_, text = reply
                repeats = reply.repeats
            except UserError as problem:
                error = str(problem)
        failed = failed or error is not None
        if given.json:
            print_json(file=name, caption=text, error=error, repeats=repeats, **_record(engine, given, started))
        elif error is not None:
            print(f"blip-space: {name}: {error}", file=sys.stderr)
        else:
            print(f"{name}\t{text}" if len(given.images) > 1 else text)
    return 1 if failed else 0


def caption_folder(given: argparse.Namespace) -> int:
    """A caption for every picture of a folder, saved as they come."""
    spec, precision = _chosen(given)
    return folder.caption_folder(given, spec, precision)


def serve(given: argparse.Namespace) -> int:
    """Serve the page, the API and `/healthz`."""
    names = ("model", "precision", "host", "port", "models", "rows", "adapter", "ray", "replicas")
    chosen = settings.read({name: getattr(given, name) for name in names})
    settings.hide_port_from_gradio()
    from blip_space.apps import server

    server.serve(chosen)
    return 0


def _load(given: argparse.Namespace) -> LocalEngine:
    spec, precision = _chosen(given)
    check_language(spec, given.language)
    from blip_space.engine.local import LocalEngine
    from blip_space.loading import loader

    return LocalEngine(loader.load_model(spec, precision, on_progress=print_load_progress(spec.name)))


def _chosen(given: argparse.Namespace) -> tuple[catalogue.ModelSpec, str]:
    """The model and its precision, by argument or environment."""
    chosen = settings.read({name: getattr(given, name) for name in ("model", "precision", "adapter")})
    return replace(catalogue.find_model(chosen.model, folders=True), adapter=chosen.adapter), chosen.precision


def _history(file: str | None) -> tuple[Turn, ...]:
    if file is None:
        return ()
    try:
        return parse_history(json.loads(Path(file).read_bytes()))  # which knows a BOM, and UTF-16 by it
    except OSError:
        raise UserError(f"The history file {file!r} cannot be read. Check its name.") from None
    except (ValueError, RecursionError):
        raise UserError(f"The history file {file!r} is not JSON. {HISTORY_FORMAT}") from None


def _pictures(files: Sequence[str]) -> Iterator[tuple[str, images.SafeImage | None, str | None]]:
    for file in files:
        try:
            yield printable_name(file), images.decode(file, max_bytes=images.MAX_FILE_BYTES), None
        except UserError as error:
            yield printable_name(file), None, str(error)


def _show(text: str, before: str) -> None:
    """What is new; a text that changed before its end, which no decoder here does, starts a new line."""
    print(text[len(before) :] if text.startswith(before) else f"\n{text}", end="", flush=True)


def _record(engine: LocalEngine, given: argparse.Namespace, started: float) -> dict[str, Any]:
    seconds = round(time.monotonic() - started, 3)
    return {
        "model": engine.model.spec.name,
        "precision": engine.model.precision.name,
        "language": given.language,
        "seconds": seconds,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m blip_space", description="Chat about an image in 96 languages.")
    parser.add_argument("--version", action="version", version=f"blip-space {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=command)
        return made

    one = add("ask", ask, "ask about a picture; the answer streams to the terminal")
    one.add_argument("image", metavar="IMAGE", help=f"a file ({images.FORMAT_NAMES})")
    one.add_argument("prompt", metavar="PROMPT", nargs="?", default="", help="the question; none asks for a caption")
    one.add_argument("--history", metavar="FILE.json", help="earlier turns, as the API takes them")
    add_decoding_options(one, quality="stream", max_new_tokens=None)
    many = add("caption", caption, "caption pictures, one line each")
    many.add_argument("images", metavar="IMAGE", nargs="+", help=f"files ({images.FORMAT_NAMES})")
    add_decoding_options(many, quality="best", max_new_tokens=options.CAPTION.max_new_tokens)
    for made in (one, many):
        made.add_argument("--language", metavar="CODE", default="en", help="language of the answer (default en)")
        _add_model(made)
    job = add("folder", caption_folder, "caption a folder of pictures, saved as they come; the same command goes on")
    add_arguments(job)
    add_decoding_options(job, quality="best", max_new_tokens=options.CAPTION.max_new_tokens)
    _add_model(job)
    shown = add("models", listing.list_models, "list the models")
    shown.add_argument("--markdown", action="store_true", help="the table of the README")
    tongues = add("languages", listing.list_languages, "list the 96 languages")
    for made in (one, many, shown, tongues):
        made.add_argument("--json", action="store_true", help="one JSON object a line")
    door = add("serve", serve, "serve the page and the API")
    _add_model(door)
    door.add_argument("--host", help="address to listen on (default 127.0.0.1; 0.0.0.0 for all)")
    door.add_argument("--port", help=f"port to listen on (default {settings.DEFAULT_PORT})")
    door.add_argument("--models", metavar="NAME,NAME", help="further models that visitors may choose")
    door.add_argument("--rows", metavar="N", help=f"answers written at once at most (default {settings.DEFAULT_ROWS})")
    door.add_argument("--ray", metavar="ADDRESS", help="answer by a Ray cluster: its HOST:PORT, auto, or local")
    door.add_argument("--replicas", metavar="N", help="engines on that cluster (default as many as it has room for)")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(catalogue.NAMES)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help=f"{names}, a folder, or owner/name of the hub (default {catalogue.DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--adapter", metavar="NAME", help="a LoRA adapter as peft saves it: its folder, or owner/name of the hub"
    )
    parser.add_argument("--precision", metavar="NAME", help=f"auto, {', '.join(catalogue.PRECISIONS)} (default auto)")
