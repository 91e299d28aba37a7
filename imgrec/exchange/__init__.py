"""Vectors and records in files that other programs read, and those of others in a gallery."""
