# An image that serves models.yaml from /models. It can't use the GPU of a Mac; for NVIDIA build on a CUDA image with
# --build-arg CMAKE_ARGS="-DGGML_CUDA=ON -DGGML_NATIVE=OFF".
#
#   docker build -t heylookllm .
#   docker run --rm -p 127.0.0.1:8080:8080 heylookllm
#   docker run --rm -p 127.0.0.1:8080:8080 -v ~/models:/models:ro -e HEYLOOK_CONFIG=/models/models.yaml heylookllm

ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# GGML_NATIVE=OFF: the image must also run on processors older than the one that built it.
ARG CMAKE_ARGS="-DGGML_NATIVE=OFF"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/heylookllm
ENV PATH=/opt/heylookllm/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/build.txt requirements/gguf.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt \
    && CMAKE_ARGS="$CMAKE_ARGS" pip install --require-hashes -r requirements/gguf.txt
COPY pyproject.toml README.md ./
COPY src src
RUN pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim-bookworm
# The engine's only library beyond the C++ runtime.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 heylook \
    && install --directory --owner heylook /models
COPY --from=build /opt/heylookllm /opt/heylookllm
ENV PATH=/opt/heylookllm/bin:$PATH PYTHONUNBUFFERED=1
USER heylook
WORKDIR /models
VOLUME /models
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["heylookllm"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
