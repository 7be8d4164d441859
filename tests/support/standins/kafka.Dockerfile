# Stands for docker.io/apache/kafka: the same broker out of the jars that the context holds.
FROM docker.io/library/python:3.11.14-slim-bookworm
RUN mkdir -p /usr/share/man/man1 && apt-get update \
 && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home appuser \
 && install --directory --owner=appuser --group=appuser /var/lib/kafka/data /opt/kafka/logs
COPY lib /opt/kafka/libs
COPY kafka-run /etc/kafka/docker/run
USER appuser
VOLUME /var/lib/kafka/data
CMD ["/etc/kafka/docker/run"]
