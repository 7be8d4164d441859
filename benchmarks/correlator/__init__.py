"""What the correlator costs: `python -m benchmarks.correlator --help`."""
