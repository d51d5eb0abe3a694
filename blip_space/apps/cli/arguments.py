"""The options that commands share, the options of `folder` and of `serve`, and the checks of their values.

Must not load a model or read an image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from blip_space import catalogue, images, languages, options, settings
from blip_space.catalogue.remote import check_options, with_adapter
from blip_space.engine.request import check_language
from blip_space.errors import UserError
from blip_space.jobs.outputs.output_files import FORMATS, SINGLE_CAPTION_FORMATS

EXISTING = ("skip", "overwrite", "append")
CLUSTER = "HOST:PORT, auto for the cluster that this machine belongs to, or local to start one here"
HUB = "owner/name of a repository on the hub"
ROWS = "16, on a GPU with much memory up to 64"
DECODING = {
    "max_new_tokens": "Maximum number of generated tokens",
    "temperature": "Temperature of sampling; 0 always picks the most likely token",
    "top_p": "Sample from the most likely tokens that add up to this probability",
    "repetition_penalty": "Penalty for repeated tokens; 1 is none",
    "seed": "Seed of sampling",
}


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `folder`, except those for the model and for decoding."""
    add = parser.add_argument
    add("folder", metavar="DIR", type=Path, help=f"Folder of images ({images.FORMAT_NAMES}).")
    text = "Output file. Formats json, csv, coco and webdataset keep records, from which a job resumes, in FILE.jsonl."
    add("--output", metavar="FILE", type=Path, required=True, help=text)
    add("--recursive", action="store_true", help="Include subfolders.")
    add("--glob", metavar="PATTERN", help="Caption only images whose names match this pattern, such as '*.jpg'.")
    add("--language", metavar="CODE,CODE", default="en", help="Languages of the captions (default: en).")
    add("--prompt", metavar="TEXT", default="", help="Prompt for every image (default: caption it).")
    add("--batch-size", metavar="N", default="auto", help="Number of sequences decoded at once (default: auto).")
    add("--format", choices=FORMATS, default="jsonl", help="Format of the output (default: jsonl).")
    add("--extension", metavar="ENDING", default=".txt", help="Extension of text files (default: .txt).")
    add("--prefix", metavar="TEXT", default="", help="Text before each caption in a text file (default: none).")
    add("--suffix", metavar="TEXT", default="", help="Text after each caption in a text file (default: none).")
    text = "skip: keep existing captions, add missing ones; overwrite: replace; append: add to them (default: skip)."
    add("--existing", choices=EXISTING, default="skip", help=text)
    add("--overwrite-edited", action="store_true", help="Overwrite text files and tables that you wrote or edited.")
    add("--retry-errors", action="store_true", help="Retry the images that failed before.")
    add("--limit", metavar="N", type=int, help="Maximum number of images (default: all).")
    add("--workers", metavar="N", type=int, help="Threads that read images (default: half of the processors, 2 to 8).")
    add("--json", action="store_true", help="Print progress as one JSON object a line.")
    add("--ray", metavar="ADDRESS", help=f"Run on a Ray cluster: {CLUSTER}.")


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve`, except those for the model."""
    add = parser.add_argument
    add("--host", help="Address to listen on, such as 0.0.0.0 for all (default: 127.0.0.1; for all if PORT is set).")
    add("--port", help=f"Port to listen on (default: {settings.DEFAULT_PORT}).")
    add("--root-path", metavar="PATH", help="Path below which a proxy serves the page, such as /blip (default: none).")
    text = "Proxies whose X-Forwarded-For names a caller: addresses, networks, or private (default: none)."
    add("--trusted-proxies", metavar="ADDRESS,ADDRESS", help=text)
    text = "How long a stopping server lets running answers finish (default: 0, they end with a sentence)."
    add("--drain", metavar="SECONDS", help=text)
    text = "Requests that a key, or without keys an address, may send in a minute (default: 0, any number)."
    add("--requests-per-minute", metavar="N", help=text)
    text = "Answers that a key, or without keys an address, may have at once (default: 0, any number)."
    add("--answers-at-once", metavar="N", help=text)
    text = "text, or json: one JSON object for each line, and a line for each answer (default: text)."
    add("--log-format", metavar="NAME", help=text)
    text = "Offer tools to agents at /mcp, by the Model Context Protocol (default: no)."
    add("--mcp", action="store_const", const="1", help=text)
    add("--models", metavar="NAME,NAME", help="Further models that users may choose (default: none).")
    text = "Maximum number of streamed answers generated at once, besides a quarter as many beam searches"
    add("--rows", metavar="N", help=f"{text} (default: {ROWS}).")
    add("--ray", metavar="ADDRESS", help=f"Run on a Ray cluster: {CLUSTER}.")
    add("--replicas", metavar="N", help="Model copies on the Ray cluster (default: as many as fit). Needs --ray.")


def add_model_options(parser: argparse.ArgumentParser, *, several_devices: bool = False) -> None:
    """Add the options that choose a model, and the device or, for a server, the devices."""
    add, default = parser.add_argument, catalogue.DEFAULT_MODEL
    text = f"Name of a model, its folder, {HUB}, or openai:URL#NAME of another server (default: {default})."
    add("--model", metavar="NAME", help=text)
    add("--adapter", metavar="NAME", help=f"LoRA adapter as peft saves it: its folder, or {HUB} (default: none).")
    add("--precision", metavar="NAME", help=f"Precision: auto, {', '.join(catalogue.PRECISIONS)} (default: auto).")
    gpus = "a GPU by cuda:N, or several, as in cuda:0,cuda:1" if several_devices else "or a GPU by cuda:N"
    add("--device", metavar="NAME", help=f"Device to compute on: auto, cpu, mps, {gpus} (default: auto).")


def parse_model(args: argparse.Namespace) -> tuple[catalogue.ModelSpec, str, str]:
    """The model with its adapter, the precision and the device, from options or environment. `UserError` if unknown."""
    chosen = settings.read({name: getattr(args, name) for name in ("model", "precision", "device", "adapter")})
    spec = with_adapter(catalogue.find_model(chosen.model, folders=True), chosen.adapter)
    check_options(spec, chosen.precision, chosen.device)
    return spec, chosen.precision, chosen.device


def add_decoding_options(
    parser: argparse.ArgumentParser, *, quality: options.Quality, max_new_tokens: int | None
) -> None:
    """Add the decoding options with these defaults; `max_new_tokens` None means the default of `GenerationOptions`."""
    text = f"stream: greedy or sampling; best: beam search, which does not stream (default: {quality})."
    parser.add_argument("--quality", choices=("stream", "best"), default=quality, help=text)
    for name, limits in options.RANGES.items():
        default = max_new_tokens if name == "max_new_tokens" else None
        shown = default or getattr(options.GenerationOptions(), name)
        text = f"{DECODING[name]}; from {limits.low:g} to {limits.high:.10g} (default: {shown:g})."
        kind = int if limits.is_integer else float
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=kind, default=default, help=text)


def parse_decoding(args: argparse.Namespace) -> options.GenerationOptions:
    """The decoding options. Raises `UserError` for a value out of range, or for options that exclude each other."""
    chosen = {name: value for name in options.RANGES if (value := getattr(args, name)) is not None}
    return options.check(quality=args.quality, **chosen)


def parse_languages(args: argparse.Namespace, spec: catalogue.ModelSpec) -> list[str]:
    """The unique codes in `--language`. Raises `UserError` for one that `spec` lacks, or too many for the format."""
    codes = [code.strip() for code in args.language.split(",") if code.strip()]
    for code in codes:
        languages.find_language(code)
        check_language(spec, code)
    if not codes:
        raise UserError("--language names no language. Leave it out for English, or name one such as de.")
    if args.format in SINGLE_CAPTION_FORMATS and len(set(codes)) > 1:
        raise UserError(
            f"--format {args.format} allows only one caption per image. Name one --language, or choose another format."
        )
    return list(dict.fromkeys(codes))


def parse_batch_size(text: str) -> int | None:
    """The number in `text`, or None for `auto`. Raises `UserError` for anything else."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 1024):
        raise UserError("--batch-size must be auto or a whole number from 1 to 1024.")
    return int(text)
