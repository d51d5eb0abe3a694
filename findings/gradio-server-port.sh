#!/usr/bin/env bash
# gradio 6.31.0 cannot be imported in a Kubernetes namespace with a service that is called gradio-server.
#
# Kubernetes sets GRADIO_SERVER_PORT=tcp://10.96.0.12:80 in every container of a namespace that has a service of that
# name. Gradio reads a number from that variable while it is imported, so `import gradio` raises ValueError: a program
# that passes its own server_port to launch(), or never launches anything, cannot start either.
#
# Observed with Python 3.11. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0
export GRADIO_ANALYTICS_ENABLED=False
version=$("$folder/venv/bin/python" -c 'import gradio; print(gradio.__version__)')
output=$(GRADIO_SERVER_PORT=tcp://10.96.0.12:80 "$folder/venv/bin/python" -c 'import gradio' 2>&1 | tail -n 1 || true)
echo "version: gradio $version"
echo "behaviour: with GRADIO_SERVER_PORT=tcp://10.96.0.12:80, as Kubernetes sets it, import gradio ends with"
echo "output: ${output:-nothing, it was imported}"
[[ $output == "ValueError: invalid literal for int()"* ]]
