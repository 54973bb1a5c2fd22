"""Motion becomes pictures with alpha."""
