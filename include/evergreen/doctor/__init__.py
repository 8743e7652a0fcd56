"""Checks of a user's own cluster, lake, database, images and services; it mends nothing by itself."""
