# The memory server.
#   docker build --build-arg TORCH_VARIANT=cpu --build-arg TORCH_INDEX_URL=<index of CPU builds> -t memory-server:0.1.0 .
#   docker run -p 127.0.0.1:50051:50051 -v memories:/data memory-server:0.1.0
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS builder
# cpu or cuda: which build of torch the image holds. TORCH_INDEX_URL is the package index that offers it; the configured
# index if empty. The build fails if torch turns out to be the other one.
ARG TORCH_VARIANT=cpu
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /source
COPY constraints.txt ./
RUN /opt/venv/bin/pip install --quiet -c constraints.txt ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} torch \
    && case "$TORCH_VARIANT" in cpu) cuda=False ;; cuda) cuda=True ;; *) echo "TORCH_VARIANT is cpu or cuda" >&2; exit 1 ;; esac \
    && /opt/venv/bin/python -c "import sys, torch; sys.exit((torch.version.cuda is not None) is not $cuda)" \
    || { echo "this index offers no $TORCH_VARIANT build of torch: name one that does with TORCH_INDEX_URL" >&2; exit 1; }
COPY pyproject.toml README.md LICENSE ./
COPY proto ./proto
COPY clients ./clients
COPY dgm_core ./dgm_core
COPY memory_server ./memory_server
RUN /opt/venv/bin/pip install --quiet -c constraints.txt '.[server]'

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin memory \
    && install --directory --mode 0700 --owner memory /data
COPY --from=builder /opt/venv /opt/venv
# The data directory is a setting, so that whoever passes a command of his own still has it on the volume.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 MEMORY_SERVER_DATA_DIR=/data
USER memory
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["memory-server", "health", "--target", "localhost:50051"]
ENTRYPOINT ["memory-server", "serve"]
# Without TLS: who may reach the port is decided where it is published, as with 127.0.0.1 above. docs/operations.md says
# what to pass in place of this for TLS and tokens.
CMD ["--host", "0.0.0.0", "--insecure-expose", "--port", "50051"]
