"""A trained model ready to run: checkpoints, settings, drawing."""
