"""The entry point of a Hugging Face Space: `python app.py` is `python -m blip_space serve`."""

import sys

from blip_space.apps.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
