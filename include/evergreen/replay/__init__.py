"""Rebuilds a model from its receipts and says whether it is the same, to the bit."""
