#!/usr/bin/env bash
# datasets 5.2.0 (fsspec 2026.9.0) cannot load a folder in which any file has "::" in its name.
#
# fsspec uses "::" to chain addresses. Such a name is valid on Linux and macOS (screenshots and exports have times and
# scopes in their names), but `load_dataset("imagefolder", data_dir=DIR)` splits the path there: it looks for a file
# that ends before the colons and raises FileNotFoundError for the entire folder, whether or not metadata.jsonl names
# the file. One colon is no problem.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 fsspec==2026.9.0 pillow==12.3.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import datasets
import fsspec
from PIL import Image

datasets.disable_progress_bars()


def rows(folder, names, listed):
    """The number of rows that a folder with these images loads with, or the exception."""
    Path(folder).mkdir()
    for name in names:
        Image.new("RGB", (8, 8), "red").save(Path(folder) / name)
    lines = [json.dumps({"file_name": name, "text": "a caption"}) for name in listed]
    (Path(folder) / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    try:
        return len(datasets.load_dataset("imagefolder", data_dir=folder)["train"])
    except Exception as error:
        return type(error).__name__


results = {
    "one colon": rows("one", ["a.png", "b:c.png"], ["a.png", "b:c.png"]),
    "two colons": rows("two", ["a.png", "b::c.png"], ["a.png", "b::c.png"]),
    "two colons, not in the metadata": rows("out", ["a.png", "b::c.png"], ["a.png"]),
}
print(f"datasets {datasets.__version__}, fsspec {fsspec.__version__}, Python {sys.version.split()[0]}")
for what, result in results.items():
    print(f"{what}: {result}")
if list(results.values()) != [2, "FileNotFoundError", "FileNotFoundError"]:
    sys.exit("The behaviour has changed.")
print("As described: one name with two colons keeps the entire folder from loading.")
PYTHON
