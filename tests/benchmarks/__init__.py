"""Benchmarks: what imgrec does beside what it is measured against, in one run, as ratios. See `make bench`."""
