"""Caption every image of a folder. For thousands of images `python -m blip_space folder` resumes where it ended."""

import sys
from pathlib import Path

import blip_space

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "assets/examples")
files = sorted(folder.glob("*.png"))

with blip_space.load("tiny") as engine:
    for file, caption in zip(files, engine.captions(files), strict=True):
        print(f"{file.name}\t{'failed: ' if isinstance(caption, blip_space.UserError) else ''}{caption}")
