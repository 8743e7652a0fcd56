"""Deployment: rolling a model out, and back."""
