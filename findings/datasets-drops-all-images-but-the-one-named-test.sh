#!/usr/bin/env bash
# Versions: datasets==5.2.0, pillow==12.3.0, Python 3.11.
#
# datasets 5.2.0: if one image of a folder has "test", "train", "dev", "eval" or "val" as a word of its name, such as
# crash-test-dummy.png, that image is all that is loaded, without its caption. The other images, and metadata.jsonl with
# the captions of all, are silently left out.
#
# The words choose splits, and once a file of any split is found, files without such a word belong to none;
# metadata.jsonl is one of those. A word ends at a space, dot, hyphen, underscore or digit, so contest.png and
# latest.png are ordinary names, and "steam train.png" is a split. Folders count as well: one subfolder "test drive"
# hides all others. With explicit `data_files` everything is loaded.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pillow==12.3.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()


def loaded(number, last, **how):
    """What a folder of three images with captions loads as: split -> (number of images, names of the columns)."""
    folder = Path(f"folder{number}")
    names = ["cat.png", "dog.png", last]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(folder / name)
    lines = [json.dumps({"file_name": name, "text": f"caption of {name}"}) + "\n" for name in names]
    (folder / "metadata.jsonl").write_text("".join(lines))
    found = datasets.load_dataset("imagefolder", data_dir=str(folder), **how)
    return {split: (rows.num_rows, rows.column_names) for split, rows in found.items()}


ALL = {"train": (3, ["image", "text"])}
EXPECTED = {
    "bird.png": ALL,
    "contest.png": ALL,
    "crash-test-dummy.png": {"test": (1, ["image"])},
    "steam train.png": {"train": (1, ["image"])},
    "val d'Aosta.png": {"validation": (1, ["image"])},
    "test drive/bird.png": {"test": (1, ["image"])},
}
print(f"datasets {datasets.__version__}, Python {sys.version.split()[0]}")
same = True
for number, (last, expected) in enumerate(EXPECTED.items()):
    result = loaded(number, last)
    same = same and result == expected
    print(f"cat.png, dog.png, {last}: {result}")
everything = loaded("-with-data-files", "crash-test-dummy.png", data_files="**")
print(f"cat.png, dog.png, crash-test-dummy.png with data_files='**': {everything}")
same = same and everything == ALL
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
