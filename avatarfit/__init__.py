"""avatarfit: from a clip of one person to a digital human that speaks."""

__version__ = "0.1.0"
