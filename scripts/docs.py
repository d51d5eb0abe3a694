"""`python -m scripts.docs`: write the generated parts of the documents; `--check` fails where one is out of date.

A document holds its generated parts between `<!-- generated: NAME -->` and `<!-- end -->`. What they say comes from the
program itself: the table of models, the help of every command, what `view_api` says of the endpoints, and the
limits and codes of errors.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts import limits

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COMMANDS = ("serve", "ask", "caption", "folder", "models", "languages", "doctor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; 1 where a checked document is out of date."""
    parser = argparse.ArgumentParser(prog="python -m scripts.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where something would change")
    args = parser.parse_args(arguments)
    stale = [file for file in DOCUMENTS if generate(file.read_text("utf-8")) != file.read_text("utf-8")]
    for file in stale:
        print(f"{file.relative_to(ROOT)} {'is out of date: run python -m scripts.docs' if args.check else 'written'}")
        if not args.check:
            file.write_text(generate(file.read_text("utf-8")), "utf-8")
    return 1 if args.check and stale else 0


def generate(text: str) -> str:
    """A document with its generated parts as they should be."""
    return PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", text)


def model_table() -> str:
    """The table of `models --markdown`."""
    return f"\n{_printed('models', '--markdown')}\n"


def command_line() -> str:
    """The help of the program and of each command."""
    helps = "".join(f"\n## {name}\n\n```\n{_printed(name, '--help')}```\n" for name in COMMANDS)
    return f"\n```\n{_printed('--help')}```\n{helps}\n"


def endpoints() -> str:
    """For each endpoint what it does, and a table of its parameters."""
    return "\n" + "\n".join(_endpoint(*item) for item in _api_info().items()) + "\n"


def error_codes() -> str:
    """The table of errors' codes."""
    from blip_space import errors

    rows = "\n".join(f"| `{code}` | {meaning} |" for code, meaning in errors.CODES.items())
    return f"\n| code | meaning |\n|---|---|\n{rows}\n\n"


def limit_table() -> str:
    """The table of a server's limits."""
    _prepare_libraries()
    return f"\n{limits.table()}\n"


PARTS: dict[str, Callable[[], str]] = {
    "models": model_table,
    "cli": command_line,
    "endpoints": endpoints,
    "codes": error_codes,
    "limits": limit_table,
}


def _printed(*arguments: str) -> str:
    from blip_space.apps import cli

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        cli.main(arguments)
    return output.getvalue()


def _prepare_libraries() -> None:
    from blip_space import settings

    settings.prepare_libraries()


def _api_info() -> dict[str, Any]:
    _prepare_libraries()
    from blip_space import catalogue
    from blip_space.apps import page
    from blip_space.serving.threaded import ThreadedEngine

    info: dict[str, Any] = page.build(ThreadedEngine([catalogue.find_model("tiny")])).get_api_info()
    return dict(info["named_endpoints"])


def _endpoint(name: str, endpoint: dict[str, Any]) -> str:
    rows = "\n".join(_parameters(endpoint["parameters"]))
    table = f"| parameter | type | default | |\n|---|---|---|---|\n{rows}\n" if rows else "It takes no parameters.\n"
    return f"### {name}\n\n{endpoint['description']}\n\n{table}"


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    for parameter in parameters:
        default = repr(parameter["parameter_default"]) if parameter["parameter_has_default"] else "required"
        python_type = parameter["python_type"]["type"]
        kind = "a code" if parameter["parameter_name"] == "language" else python_type.replace("|", "or")
        text = parameter["label"].replace("|", "\\|")
        yield f"| `{parameter['parameter_name']}` | {kind} | {default} | {text} |"


if __name__ == "__main__":
    sys.exit(main())
