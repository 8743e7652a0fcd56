"""Evaluation: metrics with intervals, champion against challenger, the gate."""
