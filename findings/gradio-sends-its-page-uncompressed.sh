#!/usr/bin/env bash
# Versions: gradio==6.31.0, Python 3.11.
#
# gradio 6.31.0 compresses its scripts and styles for every client that accepts it, and never its page, nor the /config
# that its clients read: the largest texts that it sends. Output seen: of a page with one chatbot and five dropdowns
# 72,890 bytes were sent, of which gzip leaves 5,923.
#
# The cause is that the middleware decides by the ending of the path, and "/" and "/config" have none.
#
# Starts a server on the loopback address. Needs Python 3.10 to 3.13 with venv, and a package index. Exits with 0 if
# this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0
export GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR="$folder/uploads"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import gzip
import re
import sys

import gradio
import httpx

CHOICES = [f"choice number {number}" for number in range(100)]

with gradio.Blocks() as demo:
    gradio.Chatbot()
    for _ in range(5):
        gradio.Dropdown(CHOICES)
_, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)

with httpx.Client(base_url=url, headers={"Accept-Encoding": "gzip, br"}) as client:
    page = client.get("")
    style = re.search(r'href="\./(assets/index-[\w-]+\.css)"', page.text)[1]
    responses = {"/": page, "/config": client.get("config"), f"/{style}": client.get(style)}
    found = {}
    for path, response in responses.items():
        found[path] = response.headers.get("content-encoding", "none")
        smaller = len(gzip.compress(response.content))
        print(f"{path}: compression {found[path]}, {len(response.content):,} bytes, with gzip {smaller:,}")
demo.close()

print(f"gradio {gradio.__version__}")
is_so = found["/"] == found["/config"] == "none" and found[f"/{style}"] in ("br", "gzip")
print("as described" if is_so else "this has changed")
sys.exit(not is_so)
PYTHON
