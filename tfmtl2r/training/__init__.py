"""Training: the engine that computes one step, and the Keras model around it."""
