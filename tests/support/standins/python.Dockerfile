# Stands for docker.io/library/python: Debian's Python, with pip in /usr/local as the real one has it.
FROM vexstream.test/debian
COPY authorities.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip-whl \
 && rm -rf /var/lib/apt/lists/* \
 && python3 "$(ls /usr/share/python-wheels/pip-*.whl)/pip" install --no-index \
      --break-system-packages /usr/share/python-wheels/pip-*.whl
