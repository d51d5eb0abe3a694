"""The commands `ask`, `caption` and `serve`.

Must not import torch or Gradio before a command needs them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip_space import catalogue, images, languages, settings
from blip_space.apps.cli import arguments
from blip_space.apps.cli.terminal import load_with_progress, print_json, print_message
from blip_space.engine.request import Request, check_language
from blip_space.errors import DeviceError, UserError
from blip_space.history import HISTORY_FORMAT, Turn, parse_history
from blip_space.jobs.folder_listing import printable_name

if TYPE_CHECKING:
    from blip_space.engine.local import LocalEngine
    from blip_space.serving.remote.session import RemoteSession

FOR_OTHER_IMAGES = f"For other images choose another model, such as --model {catalogue.most_multilingual_model()}."


def ask(args: argparse.Namespace) -> int:
    """Print the answer to a question about an image while it is generated."""
    request = Request(
        image=images.decode(args.image, max_bytes=images.MAX_FILE_BYTES),
        prompt=args.prompt,
        language=args.language,
        turns=_read_history(args.history),
        options=arguments.parse_decoding(args),
    )
    engine = _load_engine(args)
    started_at, answer = time.monotonic(), ""
    response = engine.generate(request)
    del request  # frees the image when the engine no longer needs it
    for text in response:
        if not args.json:
            _print_new_text(text, answer)
        answer = text
    if args.json:
        fields = _common_fields(engine, args, started_at)
        name, repeats = printable_name(args.image), response.repeats
        print_json(file=name, prompt=args.prompt, reply=answer, repeats=repeats, **fields)
    else:
        print()
    if answer in engine.spec.unknown_image_replies:
        print_message(f"{engine.spec.name} recognises some everyday things only. {FOR_OTHER_IMAGES}")
    return 0


def caption(args: argparse.Namespace) -> int:
    """Print a caption for each image. An error is reported on stderr, and the next image is captioned."""
    languages.find_language(args.language)
    decoding = arguments.parse_decoding(args)
    engine, failed = _load_engine(args), False
    for name, image, error in _decode_images(args.images):
        started_at, text, repeats = time.monotonic(), None, False
        if image is not None:
            try:
                response = engine.generate(Request(image, language=args.language, options=decoding))
                *_, text = response
                repeats = response.repeats
            except DeviceError:
                raise
            except UserError as problem:
                error = str(problem)
        failed = failed or error is not None
        if args.json:
            fields = _common_fields(engine, args, started_at)
            print_json(file=name, caption=text, error=error, repeats=repeats, **fields)
        elif error is not None:
            print_message(f"{name}: {error}")
        else:
            print(f"{name}\t{text}" if len(args.images) > 1 else text)
    return 1 if failed else 0


def serve(args: argparse.Namespace) -> int:
    """Serve the page, the API and `/healthz`."""
    names = {field.name for field in fields(settings.Settings)}
    chosen = settings.read({name: getattr(args, name, None) for name in names})  # keys have no option
    settings.hide_port_from_gradio()
    settings.bypass_proxies(chosen.host)
    if missing := settings.find_missing_proxy_package():
        raise UserError(missing)
    settings.check_upload_folder()
    from blip_space.apps import server

    server.serve(chosen)
    return 0


def _load_engine(args: argparse.Namespace) -> LocalEngine | RemoteSession:
    spec, precision, device = arguments.parse_model(args)
    check_language(spec, args.language)
    if spec.server:
        from blip_space.serving.remote.session import RemoteSession

        return RemoteSession(spec, settings.openai_key())
    from blip_space.engine.local import LocalEngine

    return LocalEngine(load_with_progress(spec, precision, device))


def _read_history(file: str | None) -> tuple[Turn, ...]:
    if file is None:
        return ()
    try:
        if Path(file).exists() and not Path(file).is_file():
            raise UserError(f"The history file {file!r} is a folder, a pipe or a device. Name a file.")
        return parse_history(json.loads(Path(file).read_bytes()))  # json detects UTF-16 and byte order marks
    except OSError:
        raise UserError(f"The history file {file!r} cannot be read. Check its name.") from None
    except (ValueError, RecursionError):
        raise UserError(f"The history file {file!r} is not JSON. {HISTORY_FORMAT}") from None


def _decode_images(files: Sequence[str]) -> Iterator[tuple[str, images.SafeImage | None, str | None]]:
    for file in files:
        try:
            yield printable_name(file), images.decode(file, max_bytes=images.MAX_FILE_BYTES), None
        except UserError as error:
            yield printable_name(file), None, str(error)


def _print_new_text(text: str, printed: str) -> None:
    """Print what `text` adds to `printed`; if it does not continue `printed`, print all of it on a new line."""
    print(text[len(printed) :] if text.startswith(printed) else f"\n{text}", end="", flush=True)


def _common_fields(engine: LocalEngine | RemoteSession, args: argparse.Namespace, started_at: float) -> dict[str, Any]:
    return {
        "model": engine.spec.name,
        "precision": engine.precision,
        "language": args.language,
        "seconds": round(time.monotonic() - started_at, 3),
    }
