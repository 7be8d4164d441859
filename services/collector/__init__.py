"""Node agent: kernel events of containers to batches of file accesses on Kafka."""
