"""The house stands as it was drawn: imports go down, and each library has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "errors": 0,
    "languages": 1,
    "options": 1,
    "images": 1,
    "catalogue": 1,
    "history": 1,
    "prompts": 2,
    "settings": 2,
    "models": 3,
    "loading": 4,
    "engine": 5,
    "serving": 6,
    "jobs": 7,
    "apps": 8,
    "training": 9,
    "benchmarks": 9,
    "app": 9,
}
SOURCES = sorted(
    [*ROOT.glob("blip_space/**/*.py"), *ROOT.glob("training/*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "app.py"]
)
MAY_MEET = {("inference", "prompts"), ("prompts", "languages")}


def room(module: str) -> str:
    """The room of `blip_space.loading.loader` is `loading`, of `training.scenes` it is `training`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "blip_space" and len(parts) > 1 else parts[0]


def imported(source: Path) -> set[str]:
    """The rooms that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "blip_space":
            found |= {f"blip_space.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {room(name) for name in found if room(name) in FLOORS}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_imports_go_down(source: Path) -> None:
    here = room(".".join(source.relative_to(ROOT).with_suffix("").parts))
    for other in imported(source) - {here}:
        assert FLOORS[other] < FLOORS.get(here, 9), f"{source.name} on the floor of {here} imports {other}"
