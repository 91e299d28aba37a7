"""Exact search: scans that bound all distances, few distances in float64, and the files that make scans quick."""
