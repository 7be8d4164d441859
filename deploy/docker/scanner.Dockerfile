# The scanner: Syft, Grype and containerd's client beside ours.
#   docker build -f deploy/docker/scanner.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11.14-slim-bookworm
ARG BUILD_IMAGE=${PYTHON_IMAGE}
ARG GO_IMAGE=docker.io/library/golang:1.25.3-bookworm

FROM ${GO_IMAGE} AS tools
ARG GRYPE_VERSION=0.121.2
ARG SYFT_VERSION=1.57.0
# The version that their go.mod name may be newer than this image's Go. The caches are gigabytes,
# which an engine would pack into a layer.
ENV GOTOOLCHAIN=auto CGO_ENABLED=0 GOFLAGS=-trimpath GOBIN=/out
RUN go install -ldflags "-s -w -X main.version=${GRYPE_VERSION}" \
      "github.com/anchore/grype/cmd/grype@v${GRYPE_VERSION}" \
 && go install -ldflags "-s -w -X main.version=${SYFT_VERSION}" \
      "github.com/anchore/syft/cmd/syft@v${SYFT_VERSION}" \
 && go clean -cache -modcache

FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends containerd
# Wheels by hash alone (scripts/lock): nothing is built but ourselves, and that without the network.
ENV PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/docker/requirements/build.txt deploy/docker/requirements/scanner.txt /requirements/
RUN python3 -m venv --without-pip /opt/build \
 && python3 -m pip --python /opt/build/bin/python install --require-hashes -r /requirements/build.txt \
 && python3 -m venv --without-pip /opt/vexstream \
 && python3 -m pip --python /opt/vexstream/bin/python install --require-hashes \
      -r /requirements/scanner.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY services services
COPY vexstream vexstream
RUN python3 -m pip --python /opt/build/bin/python wheel --no-index --no-deps \
      --no-build-isolation --wheel-dir /wheel . \
 && python3 -m pip --python /opt/vexstream/bin/python install --no-index --no-deps /wheel/*.whl

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vexstream scanner" \
      org.opencontainers.image.description="Packages, their files and their vulnerabilities, per image" \
      org.opencontainers.image.source="https://github.com/vexstream/vexstream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The base's installers: nothing here installs.
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/lib/python3*/ensurepip \
      /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/dist-packages/*
COPY --from=tools /out/grype /out/syft /usr/local/bin/
COPY --from=build /usr/bin/ctr /usr/local/bin/ctr
COPY --from=build /opt/vexstream /opt/vexstream
RUN install --directory --owner=65532 --group=65532 /var/lib/vexstream /var/lib/vexstream/grype \
      /var/lib/vexstream/scans
ENV PATH=/opt/vexstream/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp GRYPE_DB_CACHE_DIR=/var/lib/vexstream/grype \
    VEXSTREAM_WORK_DIR=/var/lib/vexstream/scans \
    VEXSTREAM_OPS_HOST=0.0.0.0 VEXSTREAM_OPS_PORT=9100
USER 65532:65532
EXPOSE 9100
VOLUME /var/lib/vexstream/grype /var/lib/vexstream/scans
ENTRYPOINT ["vexstream"]
CMD ["scan"]
