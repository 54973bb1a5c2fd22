"""Everything that is saved in an avatar file."""
