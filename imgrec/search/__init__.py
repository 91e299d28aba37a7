"""Exact search: scans that bound all distances, few distances in float64, and cached files that speed up scans."""
