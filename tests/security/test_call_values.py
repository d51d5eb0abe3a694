"""The values of a call are bounded, and only uploaded files are among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blip_space.apps.gradio_api import call_values
from blip_space.apps.gradio_api.call_values import MAX_DEPTH, MAX_FILES, MAX_VALIDATED_PARTS, check_parts
from blip_space.errors import UserError


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A reference to an uploaded file."""
    monkeypatch.setattr(call_values, "get_upload_folder", lambda: str(tmp_path))
    return {"path": str(tmp_path / "a" / "a.png"), "meta": {"_type": "gradio.FileData"}}


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_what_is_within_the_limits_passes(uploaded: dict[str, Any]) -> None:
    check_parts([[uploaded] * MAX_FILES, nested(MAX_DEPTH), "a prompt", 2**64 - 1, None, True, 1.5], MAX_FILES)
    check_parts([0] * (MAX_VALIDATED_PARTS - 1), 20, MAX_VALIDATED_PARTS)


def test_each_limit_is_kept(uploaded: dict[str, Any]) -> None:
    for values, code in (
        ([[uploaded] * (MAX_FILES + 1)], "too_large"),
        ([nested(MAX_DEPTH + 1)], "invalid_value"),
        ([2**64], "invalid_value"),
        (["\udfff"], "invalid_value"),
        ([{"\udfff": 1}], "invalid_value"),
        ([[{"path": "/etc/passwd"}]], "not_uploaded"),
        ([{"path": f"{uploaded['path']}/../../../b"}], "not_uploaded"),
        ([{"path": uploaded["path"] + "/" * 5_000}], "not_uploaded"),
    ):
        with pytest.raises(UserError) as raised:
            check_parts(values, MAX_FILES)
        assert raised.value.code == code
    with pytest.raises(UserError, match="too long to be read"):
        check_parts([0] * MAX_VALIDATED_PARTS, 20, MAX_VALIDATED_PARTS)


def test_a_path_is_checked_once_and_the_folder_once(uploaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[Path] = []
    resolve = Path.resolve

    def count(path: Path) -> Path:
        resolved.append(path)
        return resolve(path)

    monkeypatch.setattr(Path, "resolve", count)
    check_parts([[dict(uploaded) for _ in range(100)], [uploaded]], MAX_FILES)
    assert len(resolved) <= 2
