"""The pod part of the Kubernetes API on one machine: every container runs as a local process.

A development stand-in, for laptops and tests: it isolates nothing (no images, no network, no users) and serves
one machine only. Scale and isolation are Kubernetes' job; here the same operators, manifests and log calls work
without one, and faults can be switched on that a real cluster shows only on bad days.
"""
