"""A gallery: one store seen through one similarity, and searched by queries."""
