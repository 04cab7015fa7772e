"""Reports: what a training did, in TensorBoard, run cards, tables and pictures."""
