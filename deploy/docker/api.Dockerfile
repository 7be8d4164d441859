# The API: GET /vex/<digest> over Postgres.   docker build -f deploy/docker/api.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11.14-slim-bookworm
ARG BUILD_IMAGE=${PYTHON_IMAGE}

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY services services
COPY vexstream vexstream
RUN python3 -m venv --without-pip /opt/vexstream \
 && python3 -m pip --python /opt/vexstream/bin/python install --no-cache-dir ".[api]"

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vexstream api" \
      org.opencontainers.image.description="VEX documents by image digest, over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/vexstream /opt/vexstream
ENV PATH=/opt/vexstream/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    VEXSTREAM_API_HOST=0.0.0.0 VEXSTREAM_API_PORT=8000
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["vexstream"]
CMD ["serve"]
