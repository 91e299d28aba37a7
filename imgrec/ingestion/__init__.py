"""An ingest: from files to records and vectors of a store."""
