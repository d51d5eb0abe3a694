"""The command `doctor`: what this machine can run, and what is wrong, in sentences.

Must not import torch or Gradio at module level. Changes nothing but an empty folder for uploads.
"""

from __future__ import annotations

import argparse
import locale
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from blip_space import catalogue, settings
from blip_space.apps.address import check_address
from blip_space.apps.cli.terminal import print_json
from blip_space.errors import DeviceError, UserError

LIBRARIES = ("torch", "transformers", "gradio", "pillow")
HUB_SECONDS = 5.0
ONLY_CACHED = "Only models in the cache and the embedded one load."
LOW_DISK_BYTES = 2_000_000_000
SCRIPTS = {"ar": "Arabic", "hi": "Hindi", "ja": "Japanese", "ko": "Korean", "th": "Thai", "zh": "Chinese"}
"""Languages of scripts that fonts often lack."""

State = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """What a check found: an `error` keeps a server from running, a `warning` something else."""

    check: str
    state: State
    sentence: str


def examine(args: argparse.Namespace) -> int:
    """Print what each check finds; 1 if any found an error."""
    findings = list(run_checks(args))
    for finding in findings:
        if args.json:
            print_json(**finding._asdict())
        else:
            print(f"{finding.state:8} {finding.check:10} {finding.sentence}")
    return 1 if any(finding.state == "error" for finding in findings) else 0


def run_checks(args: argparse.Namespace) -> Iterator[Finding]:
    """The findings of every check, one after another. A check that fails by itself is one."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "software": _check_software,
        "settings": lambda: _check_settings(args),
        "processor": _check_processor,
        "gpu": lambda: _check_gpu(args),
        "models": lambda: _check_models(args),
        "disk": _check_disk,
        "hub": _check_hub,
        "port": lambda: _check_port(args),
        "locale": _check_locale,
        "fonts": _check_fonts,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except UserError as error:
            yield Finding(name, "error", str(error))
        except Exception as error:
            yield Finding(name, "warning", f"This could not be checked: {type(error).__name__}: {error}.")


def _check_software() -> Iterator[Finding]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield Finding("software", "ok", f"Python {platform.python_version()} on {platform.platform()}; {versions}.")


def _check_settings(args: argparse.Namespace) -> Iterator[Finding]:
    chosen = settings.read()
    for name in chosen.models:
        catalogue.find_operator_model(name)
    keys = "one of the keys is needed" if chosen.keys else "no key is needed"
    yield Finding("settings", "ok", f"A server would offer {', '.join(chosen.models)}, and {keys}.")
    if not chosen.keys and _host(args) not in ("127.0.0.1", "localhost", "::1"):
        yield Finding("settings", "warning", f"Everybody who reaches {_host(args)} may use it, as there are no keys.")


def _check_processor() -> Iterator[Finding]:
    from blip_space.loading.device import cpu_has_bf16, free_bytes

    free = free_bytes("cpu")
    memory = "unknown memory" if free is None else f"{free / 1e9:.1f} GB of free memory"
    bf16 = "computes in bf16 by itself" if cpu_has_bf16() else "has no bf16, so large models are slow in it"
    yield Finding("processor", "ok", f"It has {os.cpu_count()} cores and {memory}, and {bf16}.")


def _check_gpu(args: argparse.Namespace) -> Iterator[Finding]:
    from blip_space.loading.gpu_report import describe_gpus

    try:
        for sentence in describe_gpus():
            yield Finding("gpu", "ok", sentence)
    except DeviceError as error:
        is_needed = settings.read({"device": args.device}).device.startswith("cuda")
        yield Finding("gpu", "error" if is_needed else "warning", str(error))
    except UserError as error:
        yield Finding("gpu", "warning", str(error))


def _check_models(args: argparse.Namespace) -> Iterator[Finding]:
    from blip_space.loading.memory import fitting_precisions

    fitting = {
        name: precisions
        for name in catalogue.NAMES
        if (precisions := fitting_precisions(catalogue.find_model(name), device_name=args.device or "auto"))
    }
    names = ", ".join(f"{name} ({', '.join(precisions)})" for name, precisions in fitting.items())
    yield Finding("models", "ok", f"{len(fitting)} of {len(catalogue.NAMES)} models fit this machine now: {names}.")
    model = settings.read({"model": args.model}).model
    spec = catalogue.find_operator_model(model)
    if spec.server:
        from blip_space.serving.remote.connection import ask_models  # what is not installed has a sentence there

        yield Finding("models", "ok", ask_models(spec, settings.openai_key()))
    elif not fitting_precisions(spec, device_name=args.device or "auto"):
        yield Finding("models", "error", f"{spec.name} does not fit the free memory. Choose another --model.")


def _check_disk() -> Iterator[Finding]:
    from huggingface_hub import constants

    settings.check_upload_folder()
    for what, folder in (("uploads", settings.upload_folder()), ("models", Path(constants.HF_HUB_CACHE))):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        state: State = "warning" if free < LOW_DISK_BYTES else "ok"
        yield Finding("disk", state, f"{free / 1e9:.1f} GB are free for {what} in {folder}.")


def _check_hub() -> Iterator[Finding]:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "ok", f"HF_HUB_OFFLINE is set. {ONLY_CACHED}")
        return
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it responds
    except OSError as error:
        reason = getattr(error, "reason", error)
        yield Finding("hub", "warning", f"{constants.ENDPOINT} does not respond ({reason}). {ONLY_CACHED}")
        return
    yield Finding("hub", "ok", f"{constants.ENDPOINT} responds, so models can be downloaded.")


def _check_port(args: argparse.Namespace) -> Iterator[Finding]:
    chosen = settings.read({"host": args.host, "port": args.port})
    check_address(chosen.host, chosen.port)
    yield Finding("port", "ok", f"A server can listen on {chosen.host}, port {chosen.port}.")


def _check_locale() -> Iterator[Finding]:
    encoding = (getattr(sys.stdout, "encoding", "") or locale.getpreferredencoding()).lower().replace("-", "")
    if encoding == "utf8":
        yield Finding("locale", "ok", "The terminal's encoding is UTF-8, so every language can be printed.")
    else:
        sentence = f"The terminal's encoding is {encoding}, so some languages are printed as escapes. Set LANG=C.UTF-8."
        yield Finding("locale", "warning", sentence)


def _check_fonts() -> Iterator[Finding]:
    if not shutil.which("fc-list"):
        yield Finding("fonts", "ok", "They are not known here, and only a browser on this machine would need them.")
        return
    missing = [name for code, name in SCRIPTS.items() if not _has_font(code)]
    if missing:
        sentence = f"This machine has none for {', '.join(missing)}. Only a browser on it would need them."
        yield Finding("fonts", "warning", sentence)
    else:
        yield Finding("fonts", "ok", "A browser on this machine can show every script.")


def _has_font(code: str) -> bool:
    listed = subprocess.run(["fc-list", f":lang={code}", "family"], capture_output=True, timeout=20, check=False)
    return bool(listed.stdout.strip())


def _host(args: argparse.Namespace) -> str:
    return settings.read({"host": args.host}).host
