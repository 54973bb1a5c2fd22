"""Where finished pictures and sound go."""

from avatarfit.output.contact_sheet import contact_sheet, side_by_side
from avatarfit.output.picture_file import PictureSequence, write_png
from avatarfit.output.video_file import VideoFile

__all__ = ["PictureSequence", "VideoFile", "contact_sheet", "side_by_side", "write_png"]
