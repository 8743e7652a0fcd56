"""A trainer in Keras on TensorFlow that keeps the trainer contract: `python -m keras_trainer train ...`."""
