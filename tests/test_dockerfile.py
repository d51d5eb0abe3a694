"""The Dockerfile: what it copies, and that the script without Docker runs all of its steps."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from scripts import chroot

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def test_every_instruction_is_a_step_of_the_script() -> None:
    image = chroot.read(DOCKERFILE, {"DEVICE": "cuda"})
    names = [name for name, _ in image.steps]
    assert names.count("RUN") == len(re.findall("^RUN ", DOCKERFILE, re.MULTILINE))
    assert ("SET", "DEVICE=cuda") in image.steps
    assert image.suite == "bookworm"
    assert image.command == ["python", "app.py"]


def test_an_unknown_instruction_is_an_error() -> None:
    with pytest.raises(ValueError, match="ONBUILD"):
        chroot.read("FROM debian:bookworm-slim\nONBUILD RUN true\n", {})


def test_a_continued_step_without_its_comment_is_one() -> None:
    image = chroot.read("FROM debian:bookworm\n# a\nRUN one && \\\n    two\nENV A=b\nARG C=d\n", {"C": "e"})
    assert image.steps == [("RUN", "one &&     two"), ("SET", "A=b"), ("SET", "C=e")]
    assert image.environment == {"A": "b"}


def test_the_server_is_no_root_and_its_port_is_checked() -> None:
    image = chroot.read(DOCKERFILE, {})
    assert image.user == "user"
    assert image.volumes == ["/models"]
    compile(image.check[2], "the health check", "exec")
    assert ":7860/healthz" in image.check[2]


def test_what_is_copied_is_sent_to_docker() -> None:
    copied = {name for text in re.findall("^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in text.split()[:-1]}
    assert copied == {line[1:] for line in IGNORED if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_names_files_and_volumes_that_exist(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((ROOT / name).read_text("utf-8"))["services"]
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["volumes"]
    for service in services.values():
        for source, *_ in (volume.split(":") for volume in service.get("volumes", ())):
            assert source in volumes or (ROOT / source).is_file()


def test_the_scripts_folders_are_left_out_of_a_copy(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    chroot.build(chroot.read("FROM debian:bookworm\nCOPY scripts scripts\n", {}), _root(tmp_path), {})
    assert not list((tmp_path / "scripts").rglob("__pycache__"))
    listed = subprocess.run(["git", "ls-files", "scripts"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {path.name for path in (tmp_path / "scripts").iterdir()} >= {Path(name).name for name in listed.split()}


def _root(folder: Path) -> Path:
    (folder / "etc").mkdir()
    return folder
