"""A synthetic performer whose pose, mouth, masks and sound are exactly known."""
