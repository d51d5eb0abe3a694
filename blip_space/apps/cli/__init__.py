"""The command line: `ask`, `caption`, `folder`, `models`, `languages`, `serve`, `doctor`.

Contains the parser, the log on stderr and the exit codes: 1 for a user's mistake, reported as one line on stderr, 2 for
wrong usage, 70 for a failed GPU. Must not import torch or Gradio: the commands that need them do, so others start fast.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial

from blip_space import __version__, images, options, settings
from blip_space.apps.cli import arguments, commands, doctor, folder, listing
from blip_space.apps.cli.terminal import print_message
from blip_space.errors import DEVICE_EXIT_CODE, DeviceError, UserError

HELP_FORMAT = partial(argparse.HelpFormatter, width=100)
"""Formats help at a fixed width, whatever the terminal's, because `docs/cli.md` contains the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (None: the program's own arguments) and return the exit code."""
    _configure_streams()
    args = _parser().parse_args(argv)
    settings.prepare_libraries()
    command: Callable[[argparse.Namespace], int] = args.command
    if command is not commands.serve and not logging.getLogger("blip_space").handlers:
        logging.getLogger("blip_space").addHandler(_StderrHandler())  # `serve` configures its own log
    try:
        return command(args)
    except UserError as error:
        print_message(settings.with_origin(str(error), vars(args)))
        return DEVICE_EXIT_CODE if isinstance(error, DeviceError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the program that read our output has ended; Python would report that at exit
        return 0


class _StderrHandler(logging.Handler):
    """Prints log messages on the current stderr, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        details = f" ({type(error).__name__}: {error})" if error else ""
        print_message(f"{record.getMessage()}{details}")


def _configure_streams() -> None:
    """Make any text printable, even if a Windows pipe has a limited code page or a file name has invalid bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m blip_space",
        description="Chat about an image in 96 languages.",
        formatter_class=HELP_FORMAT,
        add_help=False,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        subparser = subparsers.add_parser(
            name, help=text, description=text, formatter_class=HELP_FORMAT, add_help=False
        )
        subparser.set_defaults(command=command)
        return subparser

    ask = add("ask", commands.ask, "Ask a question about an image; the answer streams to the terminal.")
    ask.add_argument("image", metavar="IMAGE", help=f"Image file ({images.FORMAT_NAMES}).")
    ask.add_argument("prompt", metavar="PROMPT", nargs="?", default="", help="Question (default: caption the image).")
    ask.add_argument("--history", metavar="FILE.json", help="JSON file with earlier turns, in the API's format.")
    arguments.add_decoding_options(ask, quality="stream", max_new_tokens=None)
    caption = add("caption", commands.caption, "Caption images, one line each.")
    caption.add_argument("images", metavar="IMAGE", nargs="+", help=f"Image files ({images.FORMAT_NAMES}).")
    arguments.add_decoding_options(caption, quality="best", max_new_tokens=options.CAPTION.max_new_tokens)
    for subparser in (ask, caption):
        subparser.add_argument("--language", metavar="CODE", default="en", help="Language of the answer (default: en).")
        arguments.add_model_options(subparser)
    folder_parser = add("folder", folder.caption_folder, "Caption a folder of images; run it again to resume.")
    arguments.add_folder_options(folder_parser)
    arguments.add_decoding_options(folder_parser, quality="best", max_new_tokens=options.CAPTION.max_new_tokens)
    arguments.add_model_options(folder_parser)
    models = add("models", listing.list_models, "List the models, and the precisions in which each fits this machine.")
    models.add_argument("--markdown", action="store_true", help="Print the models and their sizes as a Markdown table.")
    languages = add("languages", listing.list_languages, "List the 96 languages.")
    for subparser in (ask, caption, models, languages):
        subparser.add_argument("--json", action="store_true", help="Print one JSON object a line.")
    serve = add("serve", commands.serve, "Serve the page and the API.")
    arguments.add_model_options(serve, several_devices=True)
    arguments.add_server_options(serve)
    doctor_parser = add("doctor", doctor.examine, "Say what this machine can run, and what is wrong.")
    for name in ("model", "device", "host", "port"):
        doctor_parser.add_argument(f"--{name}", help=f"As for serve: its {name}.")
    doctor_parser.add_argument("--json", action="store_true", help="Print one JSON object a line.")
    for subparser in (parser, *subparsers.choices.values()):
        subparser.add_argument("-h", "--help", action="help", help="Show this help and exit.")
    parser.add_argument("--version", action="version", version=f"blip-space {__version__}", help="Show the version.")
    return parser
