"""The training step: forward, output error, hidden errors, gradients, update."""
