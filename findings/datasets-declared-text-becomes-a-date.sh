#!/usr/bin/env bash
# datasets 5.2.0 (pyarrow 26.0.1) rewrites captions that look like dates, even if the caller declares them as text.
#
# A folder of images with metadata.jsonl, in which every "text" is an ISO date, loads with a column of datetimes.
# Declaring the column as a string in `features=` does not keep the texts: they are parsed as datetimes first and
# formatted afterwards, so "2024-01-01" becomes "2024-01-01 00:00:00". `dataset_info` in the folder's README.md has no
# effect. One caption that is not a date, or a space after one of them, keeps all texts.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==12.3.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import datasets
import pyarrow
from PIL import Image

CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: text
    dtype: string
---
"""
datasets.disable_progress_bars()


def texts(name, captions, card="", **how):
    """The texts that a folder with these captions loads with."""
    folder = Path(name)
    folder.mkdir()
    rows = []
    for number, caption in enumerate(captions):
        Image.new("RGB", (8, 8), "red").save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": caption})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if card:
        (folder / "README.md").write_text(card)
    loaded = datasets.load_dataset("imagefolder" if not card else name, data_dir=None if card else name, **how)
    return [str(row) if isinstance(row, str) else row.isoformat() for row in loaded["train"][:]["text"]]


declared = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
dates = ["2024-01-01", "2024-01-02"]
results = {
    "as they are": texts("plain", dates),
    "declared as strings by features=": texts("declared", dates, features=declared),
    "declared as strings by README.md": texts("card", dates, card=CARD),
    "with one caption that is not a date": texts("mixed", [*dates, "a dog"]),
    "with a space after the first": texts("space", ["2024-01-01 ", "2024-01-02"]),
}
print(f"datasets {datasets.__version__}, pyarrow {pyarrow.__version__}, Python {sys.version.split()[0]}")
for how, texts_loaded in results.items():
    print(f"{how}: {texts_loaded}")
expected = [
    ["2024-01-01T00:00:00", "2024-01-02T00:00:00"],
    ["2024-01-01 00:00:00", "2024-01-02 00:00:00"],
    ["2024-01-01T00:00:00", "2024-01-02T00:00:00"],
    [*dates, "a dog"],
    ["2024-01-01 ", "2024-01-02"],
]
if list(results.values()) != expected:
    sys.exit("The behaviour has changed.")
print("As described: declaring the column as text does not keep its text.")
PYTHON
