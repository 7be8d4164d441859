"""The Avro contracts of the Kafka topics and the one codec that reads and writes them."""
