"""The entry point of `python -m blip_space`."""

import sys

from blip_space.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
