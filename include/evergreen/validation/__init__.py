"""Validation: cleaning, Great Expectations, quarantine."""
