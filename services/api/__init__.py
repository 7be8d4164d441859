"""Projects the topic vex-document into Postgres and serves it over HTTP."""
