"""The field's words: no metaphor where vLLM, transformers or nanochat have a term, and one name for one function."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("blip_space", "training", "benchmarks", "tests", "examples", "scripts")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") if file != Path(__file__))

METAPHORS = frozenset(
    """
    anew badge badges crew dear dice door doors exam exams eyes fault faults foretold glue grasp guest guests hasten
    house houses hush hushed knock knocks ledger lesson lessons lodger loudness mend mended misfit misfits newcomer
    newcomers nobody pupil pupils residence resident school schools squashed strangers teacher teachers tell tells told
    tongue tongues twin twins visitor visitors whoever wish wishes workshop
    """.split()  # noqa: SIM905  # a list of words
)
"""As parts of identifiers, and as words of docstrings and comments."""

PHRASES = (
    "at its most", "at their most", "begun again", "front door", "let in", "lets in", "laid out once", "lost its place",
    "place in line", "set aside", "stands in line", "step aside", "steps aside", "taken home", "takes home", "who asks",
    "thrown out", "who stands", "who waits", "so many as",
)  # fmt: skip

CASE_NAMES = ("adapter-of-the-eyes",)
"""Names of reported cases that tests cite, which are not ours to change."""

Use = tuple[int, str]
"""A line's number, and the word in it."""


def test_no_metaphor_stands_where_the_field_has_a_term() -> None:
    uses = [f"{file.relative_to(ROOT)}:{line}: {word}" for file in FILES for line, word in metaphors(file)]
    assert not uses, "\n".join(uses)


@pytest.mark.parametrize("text", [
    "def told(): ...", "class HouseRules: ...", "_misfit = 1", "f(visitor=1)", "def f(guest): ...", "x.the_door = 1",
    '"""What the pupil says."""', "x = 1  # whoever asks", "class A:\n    '''It is set aside.'''", "import lesson",
    "def f():\n    x = 1\n    '''Answers begun\n    again.'''",
])  # fmt: skip
def test_a_planted_metaphor_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "planted.py").write_text(text, "utf-8")
    assert list(metaphors(tmp_path / "planted.py"))


def test_english_and_the_texts_of_a_program_are_left_alone(tmp_path: Path) -> None:
    text = "def hold(intellect): print('The house told the visitor.')  # mkdir, outdoors"
    (tmp_path / "plain.py").write_text(text, "utf-8")
    assert [word for _, word in metaphors(tmp_path / "plain.py")] == []


def test_a_functions_name_means_one_thing() -> None:
    """Module-level functions of one name stand in two modules at most; the hooks of families' modules are one thing."""
    modules = defaultdict(list)
    for file in FILES:
        if file.parts[len(ROOT.parts)] not in ("blip_space", "training") or "families" in file.parts:
            continue
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in ("main", "__getattr__"):
                modules[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in modules.items() if len(files) > 2} == {}


def metaphors(file: Path) -> Iterator[Use]:
    """The metaphors in a file's identifiers, docstrings and comments."""
    source = file.read_text("utf-8")
    for line, name in identifiers(ast.parse(source)):
        words = [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
        yield from ((line, name) for word in words if word in METAPHORS)
    for line, text in prose(source):
        for name in CASE_NAMES:
            text = text.replace(name, "")
        words = re.findall(r"[a-z]+", text.lower())
        plain = f" {' '.join(words)} "
        yield from ((line, word) for word in words if word in METAPHORS)
        yield from ((line, phrase) for phrase in PHRASES if f" {phrase} " in plain)


def identifiers(tree: ast.AST) -> Iterator[Use]:
    """Every name that a file defines or takes, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.value.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or node.name


def prose(source: str) -> Iterator[Use]:
    """Every docstring, the strings below attributes among them, and every comment, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
