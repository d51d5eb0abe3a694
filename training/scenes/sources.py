"""What training takes from elsewhere: npm packages with names and pictures, pinned, checked and never committed.

Knows where they come from and under which licence; knows nothing of what is in them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

REGISTRY = "https://registry.npmjs.org"
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Source:
    """One package: its name and version in the npm registry, the SHA-512 of its archive, its licence and its makers."""

    package: str
    version: str
    sha512: str
    licence: str
    credit: str

    @property
    def address(self) -> str:
        """Where the registry has the archive."""
        return f"{REGISTRY}/{self.package}/-/{self.package.split('/')[-1]}-{self.version}.tgz"


ANNOTATIONS = Source(
    "cldr-annotations-full",
    "48.2.0",
    "DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
    "Unicode-3.0",
    "names of emoji: Unicode CLDR",
)
LISTS = Source(
    "cldr-misc-full",
    "48.2.0",
    "dSc2Tr53dQcUGwsTinamEeoP2YXOhQrIZ+SyeuUrv4MzJOSjT/Q0qkSmX11ZwfcTbYSkIqbrgALQLhAm1yf5fA==",
    "Unicode-3.0",
    "patterns of lists: Unicode CLDR",
)
STYLES = {
    "noto": Source(
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Apache-2.0",
        "Noto Emoji, Google",
    ),
    "noto-v1": Source(
        "@iconify-json/noto-v1",
        "1.2.5",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        "Apache-2.0",
        "Noto Emoji (first version), Google",
    ),
    "fxemoji": Source(
        "@iconify-json/fxemoji",
        "1.2.2",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "Apache-2.0",
        "FxEmojis, Mozilla",
    ),
    "fluent-flat": Source(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "MIT",
        "Fluent Emoji, Microsoft",
    ),
    "fluent": Source(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        "MIT",
        "Fluent Emoji, Microsoft",
    ),
    "twemoji": Source(
        "@iconify-json/twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        "CC-BY-4.0",
        "Twemoji, Twitter and other contributors",
    ),
    "emojione": Source(
        "@iconify-json/emojione",
        "1.2.3",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        "CC-BY-4.0",
        "Emoji One (version 2), JoyPixels",
    ),
}
"""Seven hands that drew the same things."""


class SourceError(Exception):
    """A package could not be fetched, or is not what it was."""


def fetched(source: Source, folder: Path) -> Path:
    """The package's files, fetched and unpacked under `folder` unless they lie there already.

    Raises `SourceError` where the registry cannot be reached or sends something else than what was pinned.
    """
    place = folder / f"{source.package.replace('/', '-').lstrip('@')}-{source.version}"
    if place.exists():
        return place
    draft = place.with_suffix(".draft")
    with tarfile.open(fileobj=io.BytesIO(_archive(source))) as archive:
        archive.extractall(draft, filter="data")
    (draft / "package").rename(place)
    draft.rmdir()
    return place


def _archive(source: Source) -> bytes:
    try:
        with urllib.request.urlopen(source.address, timeout=PATIENCE_SECONDS) as response:
            archive: bytes = response.read()
    except OSError as error:
        raise SourceError(f"{source.address} could not be fetched: {error}. Training needs it once.") from error
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != source.sha512:
        raise SourceError(f"{source.address} is not the archive that was pinned; nothing of it was used.")
    return archive
