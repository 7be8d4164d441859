"""The scanner: Syft and Grype for each image digest that a collector saw."""
