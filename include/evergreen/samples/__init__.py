"""The sample source: seeded card transactions, with fraud, late rows and defects, written to a real PostgreSQL."""
