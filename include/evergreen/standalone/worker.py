"""A Celery worker of Airflow with the libraries of our tasks already imported, as scheduler.py has them.

`python -m evergreen.standalone.worker` takes the place, and the options, of `airflow celery worker`.
"""

from __future__ import annotations

import sys

from evergreen.standalone.scheduler import become_airflow


def main() -> None:
    """Imports, then becomes `airflow celery worker`."""
    become_airflow("celery", "worker", *sys.argv[1:])


if __name__ == "__main__":
    main()
