"""The environment variables of other programs: what libraries get before they are imported, and what a host sets.

Like the settings, it may read and write `os.environ`. Depends on errors only.
"""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from blip_space.errors import UserError

OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")  # compared only
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def prepare_libraries() -> None:
    """Set environment variables for libraries, so none sends telemetry, uploads are stored in a folder of this user,
    and no proxy is asked for this machine.

    Call it before these libraries are imported. Variables that are already set keep their values.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    for name, value in {
        "GRADIO_ANALYTICS_ENABLED": "False",
        # even without analytics Gradio keeps a table of past events, and rebuilds it after each event
        "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
        "GRADIO_ANALYTICS_MAX_EVENTS": "1",
        "GRADIO_TEMP_DIR": str(_temporary_folder() / f"blip-space-{user}"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        # uvicorn would take callers' addresses from any program on this machine; `trusted_proxies` decides here
        "FORWARDED_ALLOW_IPS": "",
        # Ray hides the GPUs from a worker that requests none; without this it warns that a later version will not
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        os.environ.setdefault(name, value)
    bypass_proxies(*OWN_HOSTS)


def bypass_proxies(*hosts: str) -> None:
    """Let no library ask a proxy of the environment for these hosts. Gradio asks itself for its page when it starts.

    Changes nothing without a proxy. The lower-case variable is set as well, since libraries read it first.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    listed = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    names = [name for text in listed for part in text.split(",") if (name := part.strip())]
    names += [host for host in hosts if host not in EVERY_ADDRESS]
    for variable in ("no_proxy", "NO_PROXY"):
        os.environ[variable] = ",".join(dict.fromkeys(names))


def find_missing_proxy_package() -> str:
    """A sentence if the environment names a SOCKS proxy, and the package for it is missing; else empty. httpx, by which
    Gradio starts and the hub downloads, then fails for every address, also for those that need no proxy."""
    for name in (variable for lower in PROXIES for variable in (lower, lower.upper())):
        if os.environ.get(name, "").lower().startswith("socks") and find_spec("socksio") is None:
            return (
                f"The variable {name} names a SOCKS proxy, which needs the package socksio. Install it with "
                "pip install socksio, or unset the variable."
            )
    return ""


def upload_folder() -> Path:
    """The folder of uploads, which `prepare_libraries` names to Gradio."""
    return Path(os.environ["GRADIO_TEMP_DIR"])


def check_upload_folder() -> None:
    """Raise `UserError` unless files can be written to the folder for uploads, which is created if it is missing.

    Call it before Gradio is imported, which needs a temporary folder as well.
    """
    folder = upload_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), tempfile.TemporaryFile():
            pass
    except OSError as error:
        reason = (error.strerror or "there is no such folder").lower()
        raise UserError(
            f"Uploads cannot be stored in {str(folder)!r}, or in the system's temporary folder ({reason}). Name a "
            "folder that can be written with the variable TMPDIR, and no other with GRADIO_TEMP_DIR."
        ) from None


def hides_gpus() -> bool:
    """Whether CUDA's own variable leaves this process no GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def is_hugging_face_space() -> bool:
    """Whether this is a Hugging Face Space, which is not restarted when its process ends. A Space sets `SPACE_ID`:
    https://huggingface.co/docs/hub/spaces-overview#helper-environment-variables."""
    return bool(os.environ.get("SPACE_ID"))


def _temporary_folder() -> Path:
    """Python's temporary folder; where none can be written, one for `check_upload_folder` to name."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")  # nothing is written there
