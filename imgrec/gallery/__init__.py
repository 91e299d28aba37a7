"""A gallery: one store seen through one similarity, and the queries that are asked of it."""
