"""What a training step minimizes: the loss, auxiliary heads, contrastive terms."""
