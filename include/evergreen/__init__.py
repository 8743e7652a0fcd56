"""Evergreen keeps machine-learning models fresh."""
