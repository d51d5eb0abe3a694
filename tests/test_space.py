"""The tree of a Space: what is published of the project, and with which versions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blip_space.errors import UserError
from scripts import namespaces, space

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PRELOADED = f"Gregor/mblip-mt0-xl config.json,model.safetensors {COMMIT}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("space")
    space.write(folder, space.ZERO_GPU, model="mblip-mt0-xl", preload=[PRELOADED])
    return folder


def front_matter(tree: Path) -> str:
    return (tree / "README.md").read_text("utf-8").split("---\n")[1]


def test_zero_gpu_gets_its_own_versions_of_python_and_torch(tree: Path) -> None:
    assert 'python_version: "3.12.12"\n' in front_matter(tree)
    lines = (tree / "requirements.txt").read_text("utf-8").splitlines()
    assert "torch>=2.8,<2.12" in lines
    assert len(lines) == len({re.split("[<>=;]", line)[0] for line in lines})


def test_a_space_on_processors_installs_the_projects_requirements() -> None:
    own = (space.ROOT / "requirements.txt").read_text("utf-8").split()
    assert space.requirements(space.CPU).split() == [*space.CPU_TORCH.split(), *own]


def test_preloaded_files_and_models_are_in_the_front_matter(tree: Path) -> None:
    assert f"models:\n  - Gregor/mblip-mt0-xl\npreload_from_hub:\n  - {PRELOADED}\n" in front_matter(tree)
    assert "Salesforce" not in front_matter(tree)


@pytest.mark.parametrize("text", ["Gregor/mblip-mt0-xl", f"Gregor/mblip-mt0-xl {COMMIT}", "a/b c.json main", ""])
def test_files_without_names_or_a_commit_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="commit"):
        space.write(tmp_path, space.CPU, preload=[text])


def test_the_model_is_a_default_that_a_variable_overrides(tree: Path) -> None:
    source = (tree / "app.py").read_text("utf-8")
    ast.parse(source)
    assert 'os.environ.setdefault("BLIP_SPACE_MODEL", "mblip-mt0-xl")' in source


def test_the_command_line_of_the_tree_starts(tree: Path) -> None:
    command = [sys.executable, "app.py", "--help"]
    assert "usage" in subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout


def test_nothing_but_what_a_server_needs_is_published(tree: Path) -> None:
    names = {path.name for path in tree.iterdir()}
    assert names == {"README.md", "requirements.txt", ".gitattributes", "app.py", "LICENSE", "blip_space", "assets"}
    assert not list(tree.rglob("__pycache__"))


def test_an_earlier_tree_is_replaced_and_its_repository_kept(tmp_path: Path) -> None:
    for name in (".git/config", "blip_space/removed.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    space.write(tmp_path, space.CPU)
    assert (tmp_path / ".git" / "config").exists()
    assert not (tmp_path / "blip_space" / "removed.py").exists()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert space.main([str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_only_named_folders_can_be_written_in_a_rehearsal(tmp_path: Path) -> None:
    if not namespaces.are_available():
        pytest.skip("this machine lets no program create namespaces")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    code = (
        "import pathlib, socket, sys; from scripts import namespaces; allowed = pathlib.Path(sys.argv[1]);"
        "namespaces.start_loopback(); namespaces.make_read_only(allowed); (allowed / 'file').touch();"
        "socket.create_server(('127.0.0.1', 7860)); (allowed.parent / 'other').touch()"
    )
    command = ["unshare", "--mount", "--net", sys.executable, "-c", code, str(allowed)]
    ended = subprocess.run(command, cwd=space.ROOT, capture_output=True, text=True, check=False)
    assert "Read-only file system" in ended.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["allowed", "file"]
