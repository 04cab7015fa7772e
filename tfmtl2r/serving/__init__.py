"""Serving: SavedModels that a stock TensorFlow Serving loads."""
