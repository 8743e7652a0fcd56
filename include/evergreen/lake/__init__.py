"""The data lake: Delta tables by day, immutable objects by digest, receipts; on any URL."""
