"""Training on PyTorch Lightning: the loop, its data, its checkpoints, its processes."""
