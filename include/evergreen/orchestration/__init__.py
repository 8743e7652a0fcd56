"""Orchestration: the only room that imports Airflow."""
