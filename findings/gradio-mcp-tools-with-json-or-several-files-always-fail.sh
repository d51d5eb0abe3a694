#!/usr/bin/env bash
# Versions: gradio[mcp]==6.31.0, mcp==1.30.0, Python 3.11.
#
# gradio 6.31.0 with `launch(mcp_server=True)`: a tool with an input of gr.JSON, gr.Gallery or gr.File with several
# files is listed, but every call of it fails before its function is reached, whatever the argument.
#
# The cause is the schema of the tool, by which the MCP library checks each call. For gr.JSON it is {"type": {}}, which
# is no valid JSON schema. For lists of files it has its definitions beside the property, while its references look for
# them at the top, where there is nothing: "PointerToNowhere: '/$defs/FileData' does not exist". Text, one file and
# choices work, and the same functions work by Gradio's own client.
#
# Starts a server on the loopback address and calls its tools once. Needs Python 3.10 to 3.13 with venv, and a package
# index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gradio[mcp]==6.31.0" mcp==1.30.0
export GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR="$folder/uploads"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import asyncio
import base64
import io
import sys
from importlib.metadata import version

import gradio
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image

buffer = io.BytesIO()
Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
PNG = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
reached = []


def tool(name):
    """A function of that name, which becomes the tool's, and notes that it was called."""

    def run(value):
        reached.append(name)
        return str(value)

    run.__name__ = name
    return run


with gradio.Blocks() as demo:
    output = gradio.Textbox()
    inputs = {
        "text": gradio.Textbox(),
        "choices": gradio.CheckboxGroup(["red", "blue"]),
        "one_file": gradio.File(),
        "json": gradio.JSON(),
        "files": gradio.File(file_count="multiple"),
        "gallery": gradio.Gallery(),
    }
    for name, component in inputs.items():
        gradio.Button().click(tool(name), component, output, api_name=name)
ARGUMENTS = {
    "text": "a",
    "choices": ["red"],
    "one_file": PNG,
    "json": {"a": 1},
    "files": [PNG],
    "gallery": [{"image": PNG}],
}


async def main(url):
    """For each tool: whether its call succeeded, and the first line of its answer."""
    results = {}
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        listed = {tool.name: tool.inputSchema["properties"] for tool in (await session.list_tools()).tools}
        for name, value in ARGUMENTS.items():
            (argument,) = listed[name]
            answer = await session.call_tool(name, {argument: value})
            results[name] = (not answer.isError, answer.content[0].text.splitlines()[0][:70])
    return results


_, url, _ = demo.launch(prevent_thread_lock=True, mcp_server=True, quiet=True)
print(f"gradio {gradio.__version__}, mcp {version('mcp')}, Python {sys.version.split()[0]}")
results = asyncio.run(main(f"{url}gradio_api/mcp/"))
for name, (succeeded, line) in results.items():
    shown = line if not succeeded else "its function was called" if name in reached else "its function was not called"
    print(f"{name}: {'succeeds' if succeeded else 'fails'}: {shown}")
working = [name for name, (succeeded, _) in results.items() if succeeded]
same = working == reached == ["text", "choices", "one_file"]
by_client = Client(url, verbose=False).predict({"a": 1}, api_name="/json")
print(f"json by Gradio's client: {by_client}")
demo.close()
same = same and by_client == "{'a': 1}"
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
