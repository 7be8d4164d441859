# Stands for docker.io/library/golang: the Go of this machine, which the context holds.
FROM docker.io/library/python:3.11.14-slim-bookworm
COPY go /usr/local/go
ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
