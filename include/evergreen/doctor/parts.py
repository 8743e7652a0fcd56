"""The parts of an installation that the doctor looks at, in the order in which it tells of them."""

from __future__ import annotations

from evergreen.doctor.airflow_checks import examine_airflow
from evergreen.doctor.cluster_checks import examine_cluster
from evergreen.doctor.database_checks import examine_database
from evergreen.doctor.examination import Part
from evergreen.doctor.image_checks import PATIENCE_SECONDS, examine_image
from evergreen.doctor.lake_checks import examine_lake
from evergreen.doctor.machine_checks import examine_machine
from evergreen.doctor.serving_checks import examine_serving
from evergreen.doctor.settings_checks import examine_settings

PARTS = (
    Part(name="settings", examine=examine_settings),
    Part(name="machine", examine=examine_machine),
    Part(name="lake", examine=examine_lake, remedy="See whether the object store answers; check EVERGREEN_LAKE_URL."),
    Part(name="database", examine=examine_database, remedy="See whether it answers; check EVERGREEN_DATABASE_URL."),
    Part(name="cluster", examine=examine_cluster, remedy="See whether it answers; check EVERGREEN_KUBECONFIG."),
    # Deleting the pod takes its moments too.
    Part(name="image", examine=examine_image, seconds=PATIENCE_SECONDS + 15, remedy="See whether the cluster answers."),
    Part(name="serving", examine=examine_serving, remedy="See whether it answers; check EVERGREEN_SERVING_URL."),
    Part(name="airflow", examine=examine_airflow, remedy="See whether its api-server answers."),
)
