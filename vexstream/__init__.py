"""vexstream's pure core: decisions on plain typed data. No I/O, no clock, no Kafka, no database."""
