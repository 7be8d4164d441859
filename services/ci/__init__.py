"""``vexstream ci``: the evidence of one test run, in one process, without Kafka or Postgres."""
