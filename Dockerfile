# A server in a container: docker build --tag blip-space . ; for NVIDIA's GPUs with --build-arg DEVICE=cuda.
# docs/deploying.md has the commands; scripts/chroot.py runs these steps without Docker and knows the instructions used here.
FROM debian:bookworm-slim

ARG DEVICE=cpu
ARG TORCH_INDEX=

# On CUDA Triton compiles what starts its kernels, for which it needs a compiler and Python's headers.
RUN packages="ca-certificates python3 python3-venv"; \
    if [ "$DEVICE" = cuda ]; then packages="$packages gcc libc6-dev python3-dev"; fi; \
    apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages && \
    rm -rf /var/lib/apt/lists/*

RUN useradd --uid 1000 --create-home user && install --directory --owner=user --group=user /models
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONUNBUFFERED=1

# PyPI's torch is for CUDA; PyTorch's own index has builds for processors, a tenth of its size.
WORKDIR /app
COPY requirements.txt ./
RUN if [ "$DEVICE" = cuda ]; then index=https://pypi.org/simple; else index=https://download.pytorch.org/whl/cpu; fi; \
    pip install --no-cache-dir --index-url "${TORCH_INDEX:-$index}" "$(grep '^torch>' requirements.txt)" && \
    pip install --no-cache-dir --requirement requirements.txt

COPY app.py LICENSE ./
COPY blip_space blip_space
COPY assets assets
RUN python -m compileall -q blip_space

# The file system may be read-only: only /models and /tmp are written.
ENV HOME=/home/user
ENV HF_HOME=/models
ENV TRITON_CACHE_DIR=/tmp/triton
ENV BLIP_SPACE_HOST=0.0.0.0
USER user
VOLUME /models
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 CMD ["python", "-c", "import json, urllib.request as r; assert json.load(r.urlopen('http://127.0.0.1:7860/healthz', timeout=8))['status'] != 'failed'"]
CMD ["python", "app.py"]
