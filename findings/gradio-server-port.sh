#!/usr/bin/env bash
# Gradio cannot be imported beside a Kubernetes service that is called gradio-server.
# Seen with gradio 6.31.0 on Python 3.11.
#
# Kubernetes writes GRADIO_SERVER_PORT=tcp://10.96.0.12:80 into every container of a namespace that has a service of
# that name. Gradio reads a number from that variable while it is imported, so `import gradio` raises ValueError: a
# program that gives launch() its own server_port, or never launches anything, cannot start either.
#
# Exits with 0 where that is still so, with 1 where it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0
export GRADIO_ANALYTICS_ENABLED=False
version=$("$folder/venv/bin/python" -c 'import gradio; print(gradio.__version__)')
seen=$(GRADIO_SERVER_PORT=tcp://10.96.0.12:80 "$folder/venv/bin/python" -c 'import gradio' 2>&1 | tail -n 1 || true)
echo "version: gradio $version"
echo "behaviour: with GRADIO_SERVER_PORT=tcp://10.96.0.12:80, as Kubernetes sets it, import gradio ends with"
echo "output: ${seen:-nothing, it was imported}"
[[ $seen == "ValueError: invalid literal for int()"* ]]
