"""`python -m scripts.rehearsal TREE`: start the tree of a Space as the hub would, and ask it a question.

It installs the tree's requirements into a new environment and starts `app.py` offline with a Space's variables, on port
7860 of a network of its own, where nothing but an empty home and an empty temporary folder can be written. It waits
until the server is ready, asks a question by the API, and stops it. The exit code is 1 if any step fails. As root on
Linux; elsewhere the server starts without these bounds, which a line says.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from scripts import namespaces

PORT = 7860
READY_SECONDS = 300
STOP_SECONDS = 120
URL = f"http://127.0.0.1:{PORT}"

QUESTION = """
from gradio_client import Client, handle_file
answer = Client("{url}", verbose=False).predict(handle_file("{image}"), "What is this?", api_name="/chat")
print("octopus.png:", answer)
assert answer.strip()
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse; 1 if a step fails."""
    parser = argparse.ArgumentParser(prog="python -m scripts.rehearsal", description=__doc__)
    parser.add_argument("tree", type=Path, help="what python -m scripts.space wrote")
    parser.add_argument("--python", default=sys.executable, help="the Python of the new environment (default: this)")
    parser.add_argument("--environment", type=Path, help="an installed environment to use instead of a new one")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.inside:
        return rehearse(args.tree, args.environment, args.inside, is_bounded=True)
    with tempfile.TemporaryDirectory() as temporary:
        tree, folder = args.tree.resolve(), Path(temporary)
        environment = (args.environment or folder / "environment").absolute()
        if not args.environment:
            install(tree, environment, args.python)
        if not namespaces.are_available():
            print("writes are not checked: this machine lets no program create namespaces")
            return rehearse(tree, environment, folder, is_bounded=False)
        inside = ["-m", "scripts.rehearsal", str(tree), f"--environment={environment}", f"--inside={folder}"]
        return namespaces.run_in_new(inside)


def install(tree: Path, environment: Path, python: str) -> None:
    """What the hub installs when it builds the Space. Options of pip in the requirements are left out, since they name
    indexes that a machine without the network of the hub may not reach."""
    lines = (tree / "requirements.txt").read_text("utf-8").splitlines()
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    requirements = [line for line in lines if line and not line.startswith("--")]
    print("left out:", *(line for line in lines if line.startswith("--")), flush=True)
    command = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements]
    subprocess.run(command, check=True)


def rehearse(tree: Path, environment: Path, folder: Path, *, is_bounded: bool) -> int:
    """Start the server of `tree`, ask it, stop it; `folder` gets its home and its temporary folder."""
    home, temporary = folder / "home", folder / "temporary"
    home.mkdir()
    temporary.mkdir()
    if is_bounded:
        namespaces.start_loopback()
        namespaces.make_read_only(home, temporary)
        _check_bounds(tree)
    variables, python = space_variables(home, temporary), str(environment / "bin" / "python")
    started = time.monotonic()
    server = subprocess.Popen([python, "app.py"], cwd=tree, env=variables, start_new_session=True)
    try:
        state = wait_until_ready(server)
        print(f"ready after {time.monotonic() - started:.0f} s: {state}", flush=True)
        image = tree / "assets" / "examples" / "octopus.png"
        code = QUESTION.format(url=URL, image=image)
        subprocess.run([python, "-c", code], env=variables, check=True, timeout=READY_SECONDS)
        server.terminate()
        returncode = server.wait(STOP_SECONDS)
        print(f"stopped with exit code {returncode}; written: {written(home, temporary)}")
        return 0 if state.get("status") == "ready" and returncode == 0 else 1
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"failed: {error}")
        return 1
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def space_variables(home: Path, temporary: Path) -> dict[str, str]:
    """A Space's environment with two processors. Its home is empty, so no cache of this machine is used."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "SPACE_ID": "someone/blip-space",
        "SPACE_HOST": "someone-blip-space.hf.space",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(PORT),
        "HF_HUB_OFFLINE": "1",
        "CPU_CORES": "2",
        "MEMORY": "16Gi",
    }


def wait_until_ready(server: subprocess.Popen[bytes]) -> dict[str, object]:
    """The state that `/healthz` has in the end. Raises `RuntimeError` if the server ends, fails or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if (returncode := server.poll()) is not None:
            raise RuntimeError(f"the server ended with exit code {returncode}")
        try:
            with urllib.request.urlopen(f"{URL}/healthz", timeout=5) as response:
                state = dict(json.load(response))
        except OSError:
            state = {"status": "loading"}
        if state["status"] == "failed":
            raise RuntimeError(f"no model is loaded: {state.get('error')}")
        if state["status"] == "ready":
            return {name: state[name] for name in ("status", "model", "precision", "device")}
        time.sleep(0.2)  # the server has no other sign
    raise RuntimeError(f"the server was not ready after {READY_SECONDS} s")


def written(*folders: Path) -> str:
    """The files in these folders, without their names: those of uploads are random."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    parts = sorted({"/".join(path.relative_to(folders[0].parent).parts[:2]) for path in files})
    return f"{len(files)} files in {', '.join(parts) or 'no folder'}"


def _check_bounds(tree: Path) -> None:
    """Raise `RuntimeError` if the tree can be written: the rehearsal would show nothing."""
    try:
        (tree / "writable").touch()
    except OSError:
        return
    raise RuntimeError(f"{tree} can be written")


if __name__ == "__main__":
    sys.exit(main())
