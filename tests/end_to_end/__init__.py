"""A package, so that the installation its tests share is stopped after the last of them."""
