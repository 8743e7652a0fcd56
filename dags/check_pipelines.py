"""Says what is wrong with a broken pipeline spec, as an Airflow import error, so that no other DAG file must fail."""

from evergreen.orchestration.pipelines import broken_pipelines

errors = broken_pipelines()
if errors:
    raise errors[0] if len(errors) == 1 else ExceptionGroup("Broken pipeline specs", errors)
