"""README, docs/ and the other documents: short enough, and true wherever a program can check it."""

from __future__ import annotations

import ast
import io
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from blip_space import catalogue
from blip_space.apps import cli
from scripts import docs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")] + sorted(
    ROOT.glob("docs/*.md")
)
README = (ROOT / "README.md").read_text("utf-8")
REQUIREMENTS = (ROOT / "requirements.txt").read_text("utf-8").split("\n")
BENCHMARKS = sorted(
    file for file in ROOT.glob("benchmarks/*.py") if '__name__ == "__main__"' in file.read_text("utf-8")
)
EXTRAS = re.compile(r'"([\w-]+)(?:\[[\w,]+\])?[<>=]')

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FOLDERS = "assets|benchmarks|blip_space|docs|examples|findings|scripts|tests|training"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_two_commands_are_in_its_first_thirty_lines() -> None:
    first = README.splitlines()[:30]
    assert "pip install -r requirements.txt && python app.py" in first
    assert 'pip install -e ".[dev]" && pytest' in first


def test_a_space_installs_the_gradio_of_the_requirements() -> None:
    (version,) = re.findall(r"^sdk_version: (\S+)$", README, re.MULTILINE)
    assert f"gradio=={version}" in REQUIREMENTS
    assert "\nsdk: gradio\n" in README
    assert "\napp_file: app.py\n" in README


def test_a_space_accepts_the_short_description() -> None:
    (text,) = re.findall(r"^short_description: (.+)$", README, re.MULTILINE)
    assert len(text) <= 60


def test_its_table_has_the_figures_of_the_catalogue() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \| .* \| (\d+) \| ([\d.]+) GB \| ([\d.]+) GB \|$", README, re.MULTILINE)
    assert len(rows) == README.split("## Choose a real model")[1].split("\n## ")[0].count("\n| `")
    for name, languages, bf16, int4 in rows:
        spec = catalogue.find_model(name)
        assert (len(spec.languages), spec.memory_gb["bf16"], spec.memory_gb["int4"]) == (
            *(int(languages), float(bf16), float(int4)),
        )


def test_generated_parts_are_up_to_date() -> None:
    assert docs.main(["--check"]) == 0


def test_an_outdated_part_is_found() -> None:
    text = "<!-- generated: models -->\nold\n<!-- end -->\n"
    assert "old" not in docs.generate(text)
    assert f"| `{catalogue.DEFAULT_MODEL}` |" in docs.generate(text)


def test_each_part_is_in_a_document() -> None:
    assert {name for file in DOCUMENTS for _, name, _ in docs.PART.findall(file.read_text("utf-8"))} == set(docs.PARTS)


def test_each_dependency_has_its_reason() -> None:
    required, optional = (ROOT / "docs" / "dependencies.md").read_text("utf-8").split("## Extras")
    extras = EXTRAS.findall(
        (ROOT / "pyproject.toml").read_text("utf-8").split("optional-dependencies]")[1].split("\n[")[0]
    )
    names = {name for cell in re.findall(r"^\| (.+?) \|", required, re.MULTILINE) for name in cell.split(", ")}
    assert {re.split(r"[<>=;]", line)[0] for line in REQUIREMENTS if line} <= names
    assert set(extras) <= set(re.findall(r"[\w-]+", optional))


def test_each_benchmark_is_in_a_document() -> None:
    texts = "".join(file.read_text("utf-8") for file in DOCUMENTS)
    assert [file.stem for file in BENCHMARKS if f"python -m benchmarks.{file.stem}" not in texts] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_files_commands_and_code_are_right(file: Path) -> None:
    assert list(errors(file.read_text("utf-8"), file.parent)) == []


@pytest.mark.parametrize("text", [
    "[a](nothing.md)", "[a](README.md#nothing)", "[a](#nothing)\n# Some", "![a](assets/nothing.png)",
    "`blip_space/nothing.py`", "`training/nothing/`", "`python -m benchmarks.nothing`",
    "`python -m blip_space nothing`", "```\npython -m blip_space ask a.png --nothing\n```", "`python app.py --nothing`",
    "`python -m benchmarks.soak --nothing`", "```python\nprint(\n```", '```python\nhandle_file("nothing.png")\n```',
])  # fmt: skip
def test_a_planted_error_is_found(text: str) -> None:
    assert list(errors(text, ROOT))


def test_the_architecture_names_modules_that_exist() -> None:
    assert list(unknown_modules((ROOT / "docs" / "architecture.md").read_text("utf-8"))) == []
    assert list(unknown_modules("## Modules\n\n**engine**\n\n- `core`, `nothing` – `not_this`\n")) == ["engine/nothing"]


def test_no_committed_file_needs_large_file_storage() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    assert not [path.name for path in paths if path.is_file() and path.stat().st_size > 10_000_000]


def errors(text: str, folder: Path) -> Iterator[str]:
    """What is wrong in a document of that folder: its links, files, commands and Python."""
    prose = FENCE.sub("", text)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose):
        file = folder / target
        if target and not file.exists():
            yield f"no file {target}"
        elif anchor and anchor not in headings(file.read_text("utf-8") if target else text):
            yield f"no heading {target}#{anchor}"
    spans = re.findall(r"`([^`\n]+)`", prose)
    for path in spans:
        if re.fullmatch(rf"(?:{FOLDERS})/[\w./-]*", path) and "NAME" not in path and not (ROOT / path).exists():
            yield f"no file {path}"
    blocks = FENCE.findall(text)
    for line in [*spans, *(line for _, block in blocks for line in block.splitlines())]:
        yield from command_errors(line)
    for language, block in blocks:
        if language == "python":
            try:
                ast.parse(block)
            except SyntaxError as error:
                yield f"no Python: {error}"
            yield from (
                f"no file {name}" for name in re.findall(r'"(assets/[^"]+)"', block) if not (ROOT / name).exists()
            )
            yield from (
                f"no file {name}" for name in re.findall(r'handle_file\("([^"]+)', block) if not (ROOT / name).exists()
            )


def command_errors(line: str) -> Iterator[str]:
    """What is wrong with a line that starts a program of this project: its module, its command and its options."""
    match = re.search(r"^(?!usage).*python (?:-m ([\w.]+)|(app)\.py)(.*)", line)
    if not match or (module := match[1] or "blip_space").split(".")[0] not in (
        "blip_space",
        "benchmarks",
        "training",
        "scripts",
    ):
        return
    arguments = match[3].split("#")[0].split()
    options = [argument.split("=")[0] for argument in arguments if argument.startswith("--")]
    if module == "blip_space":
        name = "serve" if match[2] else next(iter(arguments), "--help")
        known = command_help(name)
        if not known:
            yield f"no command {name}"
            return
    elif module.endswith(".NAME"):
        return
    else:
        path = ROOT / module.replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.is_file():
            yield f"no module {module}"
            return
        known = file.read_text("utf-8")
    yield from (f"no option {option} of {module}" for option in options if not re.search(rf"{option}\b", known))


def command_help(name: str) -> str:
    """The help of a command, or for `--help` of the program; empty if there is no such command."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(io.StringIO()), suppress(SystemExit):
        cli.main([name, *(["--help"] if name != "--help" else [])])
    return output.getvalue()


def unknown_modules(architecture: str) -> Iterator[str]:
    """The modules that the architecture's list describes and that do not exist."""
    for package, bullets in re.findall(
        r"^\*\*([\w/]+)\*\*\n\n((?:- .*\n|  .*\n)+)", architecture.split("## Modules")[1], re.M
    ):
        for names in re.findall(r"(?:^- |; )((?:`[\w/]+`(?:, )?)+)(?: –|\. )", bullets.replace("\n  ", " "), re.M):
            for name in re.findall(r"[\w/]+", names):
                path = ROOT / "blip_space" / package / name
                if not path.is_dir() and not path.with_suffix(".py").is_file():
                    yield f"{package}/{name}"


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
