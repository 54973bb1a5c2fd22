"""A synthetic performer: an authored person with exact truth, for the demo's clip and for tests."""

from avatarfit.performer.performance import Performance
from avatarfit.performer.performer import Performer, Rendering
from avatarfit.performer.sample_clip import write_sample_clip

__all__ = ["Performance", "Performer", "Rendering", "write_sample_clip"]
