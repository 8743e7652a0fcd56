"""Ingestion: a day of the source becomes a day of the lake."""
