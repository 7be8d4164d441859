"""The correlator: file accesses and scans in, VEX documents out."""
