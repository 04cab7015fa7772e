"""Keras layers that architectures are made of."""
