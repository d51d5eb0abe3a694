"""`python -m scripts.chroot FOLDER`: run the Dockerfile's own steps where there is no Docker.

As root on Debian with debootstrap: the base image is a Debian of the same release, and every RUN, COPY, ENV, ARG and
WORKDIR of the Dockerfile happens in a copy of it. Then the server starts as the Dockerfile's user, on a read-only file
system with its volumes and /tmp as the only folders that can be written, in a network of its own, until the health
check passes; SIGTERM must end it with exit code 0. With `--wheels` pip also finds packages in a folder of this machine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts import namespaces

ROOT = Path(__file__).resolve().parent.parent
MIRROR = "http://deb.debian.org/debian"
HEALTHY_SECONDS = 300
STOP_SECONDS = 120
COMPILED = shutil.ignore_patterns("__pycache__")


@dataclass
class Image:
    """The Dockerfile's steps, and what they set for the server."""

    suite: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, then serve; 1 if a step or the server fails."""
    parser = argparse.ArgumentParser(prog="python -m scripts.chroot", description=__doc__)
    parser.add_argument("folder", type=Path, help="gets debian/, which later runs use again, and image/")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as for docker build")
    parser.add_argument("--wheels", type=Path, help="a folder of packages, for example torch where no index has it")
    parser.add_argument("--certificates", type=Path, help="authorities that pip trusts instead of its own")
    parser.add_argument("--mirror", default=MIRROR, help=f"of Debian (default: {MIRROR})")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    given = dict(text.split("=", 1) for text in args.build_arg)
    image = read((ROOT / "Dockerfile").read_text("utf-8"), given)
    base, folder = args.folder.resolve() / "debian", args.folder.resolve() / "image"
    if args.inside:
        return serve(image, folder)
    try:
        if not (base / "etc" / "debian_version").exists():
            base.mkdir(parents=True, exist_ok=True)
            subprocess.run(["debootstrap", "--variant=minbase", image.suite, str(base), args.mirror], check=True)
        subprocess.run(["rm", "--recursive", "--force", "--one-file-system", str(folder)], check=True)
        subprocess.run(["cp", "--archive", str(base), str(folder)], check=True)
        build(image, folder, _build_variables(folder, args.wheels, args.certificates))
    except subprocess.CalledProcessError as error:
        print(f"failed: {error}")
        return 1
    return namespaces.run_in_new(["-m", "scripts.chroot", str(args.folder), "--inside"])


def read(dockerfile: str, given: Mapping[str, str]) -> Image:
    """The steps of a Dockerfile; `given` are values of its ARGs. Raises `ValueError` for an instruction that this
    script does not know, so that none is left out silently."""
    image = Image()
    for line in _instructions(dockerfile):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            image.suite = rest.removeprefix("debian:").removesuffix("-slim")
        elif name in ("ARG", "ENV"):
            key, _, value = rest.partition("=")
            value = given.get(key, value) if name == "ARG" else value
            image.steps.append(("SET", f"{key}={value}"))
            image.environment |= {key: value} if name == "ENV" else {}
        elif name in ("RUN", "COPY", "WORKDIR"):
            image.steps.append((name, rest))
            image.folder = rest if name == "WORKDIR" else image.folder
        elif name == "USER":
            image.user = rest
        elif name == "VOLUME":
            image.volumes.append(rest)
        elif name == "CMD":
            image.command = json.loads(rest)
        elif name == "HEALTHCHECK":
            image.check = json.loads(rest.partition(" CMD ")[2])
        elif name != "EXPOSE":
            raise ValueError(f"the Dockerfile has {name}, which scripts/chroot.py does not know")
    return image


def _instructions(dockerfile: str) -> list[str]:
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", "").splitlines() if line.strip()]


def build(image: Image, folder: Path, variables: dict[str, str]) -> None:
    """Run the steps in the Debian in `folder`."""
    for host_file in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{host_file}", folder / "etc" / host_file)
    directory = "/"
    for name, rest in image.steps:
        started = time.monotonic()
        print(f"== {name} {rest}", flush=True)
        if name == "SET":
            key, _, value = rest.partition("=")
            variables[key] = value
        elif name == "WORKDIR":
            directory = rest
            (folder / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(rest.split(), folder / directory.lstrip("/"))
        else:
            _run_in(folder, directory, variables, ["sh", "-c", rest])
        print(f"   {time.monotonic() - started:.0f} s", flush=True)


def _build_variables(folder: Path, wheels: Path | None, certificates: Path | None) -> dict[str, str]:
    """What Docker has while it builds, and this machine's packages."""
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    if wheels:
        shutil.copytree(wheels, folder / "wheels", dirs_exist_ok=True)
        variables["PIP_FIND_LINKS"] = "/wheels"
    if certificates:
        shutil.copy(certificates, folder / "certificates.pem")
        variables["PIP_CERT"] = "/certificates.pem"
    return variables


def _copy(names: Sequence[str], directory: Path) -> None:
    """COPY: files into the folder, and a folder's contents onto a path."""
    *sources, target = names
    for source in (ROOT / name for name in sources):
        if source.is_dir():
            shutil.copytree(source, directory / target, ignore=COMPILED, dirs_exist_ok=True)
        else:
            shutil.copy(source, directory / target)


def _run_in(folder: Path, directory: str, variables: Mapping[str, str], command: Sequence[str]) -> None:
    mounts = shlex.join(["mount", "-t", "proc", "proc", str(folder / "proc")])
    mounts += " && " + shlex.join(["mount", "--rbind", "/dev", str(folder / "dev")])
    script = f"{mounts} && exec {shlex.join(_in_chroot(folder, directory, variables, command))}"
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True)


def _in_chroot(
    folder: Path, directory: str, variables: Mapping[str, str], command: Sequence[str], user: str = "root"
) -> list[str]:
    """The command that runs `command` there as that user, with these variables and no other."""
    chroot = ["chroot", f"--userspec={user}:{user}", str(folder), "/usr/bin/env", "-i"]
    return [*chroot, f"--chdir={directory}", *(f"{key}={value}" for key, value in variables.items()), *command]


def serve(image: Image, folder: Path) -> int:
    """Start the server, wait for its health check and stop it; in namespaces of its own."""
    namespaces.start_loopback()
    for point, kind in (("proc", "proc"), ("tmp", "tmpfs")):
        subprocess.run(["mount", "-t", kind, kind, str(folder / point)], check=True)
    subprocess.run(["mount", "--rbind", "/dev", str(folder / "dev")], check=True)
    written = [folder / path.lstrip("/") for path in ("/tmp", *image.volumes)]  # /tmp of the chroot
    namespaces.make_read_only(*written)
    started, where = time.monotonic(), (folder, image.folder, image.environment)
    server = subprocess.Popen(_in_chroot(*where, image.command, image.user))
    try:
        is_healthy = _wait_until_healthy(server, _in_chroot(*where, image.check, image.user))
        print(f"{'healthy' if is_healthy else 'not healthy'} after {time.monotonic() - started:.0f} s", flush=True)
        server.terminate()
        returncode = server.wait(STOP_SECONDS)
        print(f"stopped with exit code {returncode}")
        return 0 if is_healthy and returncode == 0 else 1
    finally:
        if server.poll() is None:
            server.kill()


def _wait_until_healthy(server: subprocess.Popen[bytes], check: Sequence[str]) -> bool:
    deadline = time.monotonic() + HEALTHY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(1)  # as Docker does
    return False


if __name__ == "__main__":
    sys.exit(main())
