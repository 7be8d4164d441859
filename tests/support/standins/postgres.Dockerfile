# Stands for docker.io/library/postgres: Debian's Postgres behind the variables that we set.
FROM docker.io/library/python:3.11.14-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-15 \
 && rm -rf /var/lib/apt/lists/* \
 && chmod 3777 /var/run/postgresql \
 && install --directory --owner=postgres --group=postgres --mode=0700 /var/lib/postgresql/data
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres", "-c", "listen_addresses=*"]
