"""Families are discovered by their modules: nothing above them names one, and without them it does not exist."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip_space.catalogue import families

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "blip_space"
ABOVE = ("loading", "engine", "serving", "jobs", "apps")
SOURCES = sorted(
    [path for part in ABOVE for path in (PACKAGE / part).rglob("*") if path.suffix in (".py", ".js", ".html", ".css")]
)
WORDS = sorted(
    {word.lower() for row in families.ALL.values() for word in (row.name, row.noun.split()[1], *row.language_models)}
    | {style for row in families.ALL.values() for style in row.prompt_styles}
)
PROGRAMS = re.compile(r"blip.space|llama\.cpp", re.IGNORECASE)
"""Names of programs, including this one, which are not names of families."""


def named(text: str) -> set[str]:
    """The families, language models and prompt styles that a text or an identifier names as separate words."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", PROGRAMS.sub("", text)).lower()
    return {word for word in WORDS if re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", words)}


def texts(source: Path) -> Iterator[tuple[int, str]]:
    """Every identifier and string of a module except docstrings, with its line; of other files every line."""
    content = source.read_text("utf-8")
    if source.suffix != ".py":
        yield from enumerate(content.splitlines(), 1)
        return
    tree = ast.parse(content)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "asname", "module", "rest"):
            if isinstance(value := getattr(node, field, None), str):
                yield line, value
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield line, node.value


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_no_module_above_the_models_names_a_family(source: Path) -> None:
    names = [f"line {line}: {text[:60]}" for line, text in texts(source) if named(text)]
    assert not names, f"{source.relative_to(ROOT)} names a family"


@pytest.mark.parametrize(
    "line",
    [
        "from transformers import Blip2Config", "class StoredBlip2: ...", "family = find('blip2')", "a.T5Decoder",
        "import blip_space.models.families.blip2", "print('the layers of a T5 overflow')", "f(mt5=1)", "x = OPTConfig",
        "print(f'{name} is no BLIP-2')", "MBLIP_LANGUAGES = 1", "if kind == 'bloom': ...", "def read_opt(): ...",
        "print('start it with --model blip2-opt-2.7b')",
    ],
)  # fmt: skip
def test_names_of_families_are_detected(tmp_path: Path, line: str) -> None:
    (tmp_path / "named.py").write_text(line, "utf-8")
    assert [text for _, text in texts(tmp_path / "named.py") if named(text)]


@pytest.mark.parametrize(
    "line",
    [
        '"""What BLIP-2 and T5 need."""', "import blip_space.options", "x = 'llama.cpp'",
        "opted = 'optional, BLIP_SPACE_MODEL'",
        "x = 1  # as T5 does", "family = spec.family", "adopt = 'blip-space: blooming'",
    ],
)  # fmt: skip
def test_other_words_are_not_detected(tmp_path: Path, line: str) -> None:
    (tmp_path / "unnamed.py").write_text(line, "utf-8")
    assert not [text for _, text in texts(tmp_path / "unnamed.py") if named(text)]


def test_every_family_has_a_module_in_catalogue_and_models() -> None:
    modules = {path.stem for path in (PACKAGE / "models" / "families").glob("*.py")} - {"__init__"}
    assert set(families.ALL) == modules
    assert all(name == family.name for name, family in families.ALL.items())


@pytest.mark.parametrize("gone", [name for name in families.ALL if name != families.FIRST])
def test_family_without_its_modules_does_not_exist_and_others_do(tmp_path: Path, gone: str) -> None:
    shutil.copytree(PACKAGE, tmp_path / "blip_space", ignore=shutil.ignore_patterns("__pycache__", "apps"))
    (tmp_path / "assets" / "tiny").mkdir(parents=True)
    for part in ("catalogue", "models"):
        (tmp_path / "blip_space" / part / "families" / f"{gone}.py").unlink(missing_ok=True)
    removed = families.ALL[gone]
    folder = tmp_path / "folder"
    folder.mkdir()
    config = {"architectures": [removed.architecture], "model_type": removed.model_type, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    script = (
        "import json\nfrom blip_space import catalogue\n"
        f"print(json.dumps([list(catalogue.MODELS), catalogue.find_operator_model({str(folder)!r}).load_error]))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    models, load_error = json.loads(run.stdout)
    assert models == [
        item.name for family in families.ALL.values() if family is not removed for item in family.checkpoints
    ]
    assert f"{removed.model_type!r}, which is not a" in load_error
    assert removed.noun not in load_error


@pytest.mark.parametrize("gone", [name for name in families.ALL if name != families.FIRST])
def test_other_tests_pass_without_a_familys_files(gone: str) -> None:
    """A few of them; `python -m benchmarks.without NAME` runs all."""
    sample = (
        "tests/catalogue/test_catalogue.py",
        "tests/loading/test_preparation.py",
        "tests/loading/test_selftest.py",
    )
    command = [sys.executable, "-m", "benchmarks.without", gone, *sample]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2_000:]
    assert f"blip_space/models/families/{gone}.py" in run.stdout
    assert f"blip_space/catalogue/families/{gone}.py" in run.stdout
