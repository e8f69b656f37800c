"""Files: model files and checkpoints, written whole or not at all."""
