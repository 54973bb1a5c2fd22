"""Stages wired together: fit, drive, demo."""
