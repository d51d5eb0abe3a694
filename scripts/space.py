"""`python -m scripts.space FOLDER`: write the tree of a Hugging Face Space, to be pushed to its repository as it is.

The front matter is that of the README with the Space's own versions of Python and torch. With `--zero-gpu` they are
those that ZeroGPU has, and the models answer in its workers. A real model's files are named by `--preload`, which
the hub downloads when it builds the Space. docs/deploying.md has the steps, the variables and the secrets.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blip_space import catalogue
from blip_space.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("app.py", "LICENSE", "blip_space", "assets/examples", "assets/locales", "assets/page", "assets/tiny")
"""What a running server needs of the project."""

CPU_TORCH = "--extra-index-url https://download.pytorch.org/whl/cpu"
"""PyTorch's builds without CUDA, a tenth of the size of PyPI's, where a Space runs on processors."""

MAX_FILE_BYTES = 10_000_000
"""A larger file needs large file storage, which a push by plain git does not use."""

PRELOADED = re.compile(r"[\w.-]+/[\w.-]+ [\w./-]+(,[\w./-]+)* [0-9a-f]{40}")


@dataclass(frozen=True)
class Hardware:
    """What a kind of Space installs: `python` for the front matter, requirements instead of the project's own of the
    same package, and lines in front of them."""

    python: str
    replaced: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    suggested: str = ""


CPU = Hardware(python="3.12", options=(CPU_TORCH,), suggested="cpu-basic")
ZERO_GPU = Hardware(python="3.12.12", replaced=("torch>=2.8,<2.12", "spaces>=0.51,<1"), suggested="zero-a10g")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tree; 1 and a sentence if a value is wrong."""
    parser = argparse.ArgumentParser(prog="python -m scripts.space", description=__doc__)
    parser.add_argument("folder", type=Path, help="a new or empty folder, or a clone of the Space's repository")
    parser.add_argument("--zero-gpu", action="store_true", help="for ZeroGPU instead of processors")
    parser.add_argument("--model", default="tiny", help="the model that the Space serves (default: tiny)")
    parser.add_argument(
        "--preload",
        action="append",
        default=[],
        metavar="'REPOSITORY FILE,FILE COMMIT'",
        help="files that the hub downloads when it builds the Space; may be given more than once",
    )
    args = parser.parse_args(arguments)
    try:
        write(args.folder, ZERO_GPU if args.zero_gpu else CPU, model=args.model, preload=args.preload)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.folder} has the tree of a Space that serves {args.model}")
    return 0


def write(folder: Path, hardware: Hardware, *, model: str = "tiny", preload: Sequence[str] = ()) -> None:
    """Write the tree into `folder`, whose `.git` is kept. Raises `UserError` for other contents than an earlier tree's,
    for an unknown model, and for files without a commit."""
    spec = catalogue.find_model(model)
    if (wrong := next((text for text in preload if not PRELOADED.fullmatch(text)), None)) is not None:
        raise UserError(f"{wrong!r} must be a repository, its files with commas between them, and a whole commit.")
    _empty(folder)
    for name in COPIED:
        _copy(name, folder)
    sources = sorted({text.split()[0] for text in preload} | ({spec.source} if not spec.is_folder else set()))
    front_matter = _front_matter(hardware, sources, preload)
    (folder / "README.md").write_text(f"---\n{front_matter}---\n{_card(model)}", "utf-8")
    (folder / "requirements.txt").write_text(requirements(hardware), "utf-8")
    (folder / ".gitattributes").write_text("* text=auto eol=lf\n*.safetensors binary\n", "utf-8")
    if model != "tiny":
        _choose(folder / "app.py", model)


def requirements(hardware: Hardware) -> str:
    """The project's requirements with the versions that the hardware has."""
    own = {_package(line): line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line}
    own |= {_package(line): line for line in hardware.replaced}
    return "".join(f"{line}\n" for line in [*hardware.options, *sorted(own.values())])


def _package(requirement: str) -> str:
    return re.split(r"[<>=; ]", requirement)[0]


def _empty(folder: Path) -> None:
    """Remove an earlier tree, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {Path(name).parts[0] for name in COPIED} | {"README.md", "requirements.txt", ".gitattributes"}
    for path in folder.iterdir():
        if path.name == ".git":
            continue
        if path.name not in known:
            raise UserError(f"{folder} holds {path.name}, which no Space of this project has. Name another folder.")
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _copy(name: str, folder: Path) -> None:
    """Copy the committed files below `name`, so that nothing left by a build or an editor is published."""
    listed = subprocess.run(["git", "ls-files", "-z", name], cwd=ROOT, capture_output=True, text=True, check=True)
    for file in filter(None, listed.stdout.split("\0")):
        if (size := (ROOT / file).stat().st_size) > MAX_FILE_BYTES:
            raise UserError(f"{file} has {size} bytes, more than git pushes without large file storage.")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)


def _front_matter(hardware: Hardware, sources: Sequence[str], preload: Sequence[str]) -> str:
    """The README's, without its models and with the Space's own lines."""
    text = (ROOT / "README.md").read_text("utf-8").split("---\n")[1]
    text = re.sub(r"^models:\n(  - .*\n)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^python_version: .*$", f'python_version: "{hardware.python}"', text, flags=re.MULTILINE)
    for key, values in (("models", sources), ("preload_from_hub", preload)):
        text += f"{key}:\n" + "".join(f"  - {value}\n" for value in values) if values else ""
    return f"{text}suggested_hardware: {hardware.suggested}\nstartup_duration_timeout: 30m\n"


def _card(model: str) -> str:
    description = "a small model that recognizes drawings of everyday objects" if model == "tiny" else f"`{model}`"
    return (
        f"\n# blip-space\n\nChat about an image. This Space serves {description}.\n\nUploads are deleted within 24 "
        "hours, and no image or text is logged. Answers can be wrong: do not rely on them.\n"
    )


def _choose(app: Path, model: str) -> None:
    """Let the Space serve that model unless its variable BLIP_SPACE_MODEL names another."""
    text = app.read_text("utf-8")
    head, found, tail = text.partition("from blip_space.apps.cli import main\n")
    if not found:
        raise UserError("app.py no longer imports the command line, so the model cannot be set in it.")
    line = f'\nos.environ.setdefault("BLIP_SPACE_MODEL", {model!r})\n'.replace("'", '"')
    app.write_text(head.replace("import sys\n", "import os\nimport sys\n") + found + line + tail, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
