"""Features: one definition, compiled for batches and for single events; training sets."""
