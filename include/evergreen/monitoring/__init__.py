"""Monitoring: drift of features and scores, and the governor that decides on retraining."""
