"""Pages in the Airflow UI: what serves, and the evidence behind a task."""
