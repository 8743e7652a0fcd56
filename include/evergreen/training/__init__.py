"""Training: from a training set to a model. Imports torch, never Airflow."""
