# The collector: the only image that runs as root; it needs the capabilities of docs/collector.md.
#   docker build -f deploy/docker/collector.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11.14-slim-bookworm
ARG BUILD_IMAGE=${PYTHON_IMAGE}

FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends clang libbpf-dev
WORKDIR /src
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY services services
COPY vexstream vexstream
RUN python3 -m venv --without-pip /opt/vexstream \
 && python3 -m pip --python /opt/vexstream/bin/python install --no-cache-dir ".[collector]" \
 && /opt/vexstream/bin/python -c "from pathlib import Path; \
from services.collector.build import build_probe; build_probe(Path('/opt/vexstream/probe.bpf.o'))"

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vexstream collector" \
      org.opencontainers.image.description="Which files every container uses, by eBPF" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update && apt-get install --yes --no-install-recommends libbpf1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/vexstream /opt/vexstream
ENV PATH=/opt/vexstream/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    VEXSTREAM_PROBE_OBJECT=/opt/vexstream/probe.bpf.o \
    VEXSTREAM_OPS_HOST=0.0.0.0 VEXSTREAM_OPS_PORT=9100
USER 0:0
EXPOSE 9100
ENTRYPOINT ["vexstream"]
CMD ["collect"]
