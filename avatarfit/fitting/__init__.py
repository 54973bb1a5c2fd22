"""Trainers: from a clip folder to the parts of an avatar."""
