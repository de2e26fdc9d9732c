"""Augmentation on the device: mixing, erasing, colour."""
