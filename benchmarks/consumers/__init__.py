"""What real Trivy and Grype do with our documents, as a table."""
