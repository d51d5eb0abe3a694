"""Imports go down, no two modules import each other in a circle, and the rules need no torch."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    {"errors", "reasons"},
    {"languages", "options", "images", "history", "callers"},
    {"catalogue", "prompts", "settings"},
    {"models"},
    {"loading"},
    {"engine"},
    {"serving"},
    {"jobs", "library"},
    {"apps"},
)
"""The packages of blip_space, lowest first. A package may import what stands below it, and its own layer without
circles. What stands above all (app, training, benchmarks, scripts) is imported by nothing."""

TORCH_FREE = ("request", "sequence", "scheduler", "fairness", "preemption", "detokenizer", "output", "answer_check")
"""Modules of the engine that plan or read, and compute nothing. Everything below `models` is free of torch as well."""

HEAVY = ("torch", "transformers", "bitsandbytes", "peft", "accelerate", "gradio", "ray")

Tree = dict[str, Path]


def modules(root: Path) -> Tree:
    """Every module below a checkout, by its dotted name."""
    files = [*root.glob("blip_space/**/*.py"), *root.glob("training/**/*.py"), *root.glob("benchmarks/**/*.py")]
    files += [*root.glob("scripts/**/*.py"), root / "app.py"]
    names = {".".join(file.relative_to(root).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


def imports(file: Path, known: Tree, *, at_import: bool = False) -> set[str]:
    """The modules that a file names in its imports, wherever they stand; with `at_import` those that run with it."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped: set[ast.AST] = set()
    if at_import:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_types_only(node):
                skipped.update(ast.walk(node))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def layer(module: str) -> int | None:
    """The number of a module's layer; None for what is not ours, or stands above all."""
    package, _, rest = module.partition(".")
    if package != "blip_space" or not rest:
        return None
    name = rest.split(".")[0]
    return next((number for number, names in enumerate(LAYERS) if name in names), len(LAYERS))


def upward(known: Tree) -> list[str]:
    """Each import that goes up, or that names what stands above all."""
    wrong = []
    for module, file in known.items():
        here = layer(module)
        for other in sorted(imports(file, known)):
            there, is_above = layer(other), other.split(".")[0] in ("app", "training", "benchmarks", "scripts")
            if module.startswith("blip_space.") and (is_above or (here or 0) < (there or 0)):
                wrong.append(f"{module} imports {other}")
    return wrong


def circle(known: Tree) -> list[str]:
    """Modules that import each other in a circle while they are imported, if there are any."""
    graph = {module: imports(file, known, at_import=True) & set(known) - {module} for module, file in known.items()}
    for module in known:  # a package's own modules may name it: it is imported first
        graph[module] = {other for other in graph[module] if not module.startswith(f"{other}.")}
    return _circle(graph)


def circle_of_packages(known: Tree) -> list[str]:
    """Packages of one layer that import each other in a circle, at any time, if there are any."""
    graph: dict[str, set[str]] = {}
    for module, file in known.items():
        here = ".".join(module.split(".")[:3])
        others = {".".join(name.split(".")[:3]) for name in imports(file, known) if name in known}
        graph.setdefault(here, set()).update(others - {here, here.rpartition(".")[0]})
    packages = {name for name in graph if known.get(name, ROOT).name == "__init__.py" and name.count(".") == 2}
    return _circle({name: others & packages for name, others in graph.items() if name in packages})


def _circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def heavy(module: str, known: Tree) -> set[str]:
    """The large libraries that importing a module imports, through whatever modules of ours."""
    seen, queue, found = set(), [module], set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        for other in imports(known[name], known, at_import=True):
            found |= {other.split(".")[0]} & set(HEAVY)
            queue += [part for part in (other, other.rpartition(".")[0]) if part in known]
    return found


KNOWN = modules(ROOT)
FREE = [name for name in KNOWN if (layer(name) or len(LAYERS)) < 3 and layer(name) is not None]
FREE += [f"blip_space.engine.{name}" for name in TORCH_FREE]


def test_every_package_has_its_layer() -> None:
    assert {name for name in KNOWN if layer(name) == len(LAYERS)} <= {"blip_space.__main__"}


def test_imports_go_down() -> None:
    assert not upward(KNOWN)


def test_no_modules_and_no_packages_import_each_other_in_a_circle() -> None:
    assert not circle(KNOWN)
    assert not circle_of_packages(KNOWN)


@pytest.mark.parametrize("module", FREE)
def test_rules_need_no_torch(module: str) -> None:
    assert not heavy(module, KNOWN)


def plant(root: Path, **files: str) -> Tree:
    """A checkout of these modules, by their dotted names with `_0_` for a dot."""
    (root / "app.py").write_text("", "utf-8")
    for name, text in files.items():
        file = root / "blip_space" / f"{name.replace('_0_', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return modules(root)


@pytest.mark.parametrize("line", [
    "from blip_space.serving import protocol", "import blip_space.apps.page", "from blip_space import jobs",
    "def f(): from blip_space.serving.protocol import x", "import training.recipe", "from benchmarks import trace",
])  # fmt: skip
def test_an_import_that_goes_up_is_found(tmp_path: Path, line: str) -> None:
    known = plant(tmp_path, engine_0_deep_0_core=line, serving_0_protocol="", apps_0_page="", jobs_0___init__="")
    assert upward(known)


def test_a_circle_is_found(tmp_path: Path) -> None:
    known = plant(tmp_path, models_0_a="import blip_space.models.b", models_0_b="from blip_space.models import a")
    assert set(circle(known)) == {"blip_space.models.a", "blip_space.models.b"}
    known = plant(tmp_path, models_0_b="def f(): from blip_space.models import a")
    assert not circle(known)


def test_a_circle_of_packages_is_found(tmp_path: Path) -> None:
    one, other = "from blip_space.apps.api import a", "def f(): import blip_space.apps.page.b"
    files = {"apps_0_page_0___init__": "", "apps_0_api_0___init__": "", "apps_0_page_0_c": one, "apps_0_page_0_b": ""}
    known = plant(tmp_path, **files, apps_0_api_0_a=other)
    assert set(circle_of_packages(known)) == {"blip_space.apps.api", "blip_space.apps.page"}


def test_torch_behind_another_module_is_found(tmp_path: Path) -> None:
    known = plant(tmp_path, prompts="from blip_space.catalogue import spec", catalogue_0_spec="import torch.nn")
    assert heavy("blip_space.prompts", known) == {"torch"}
