"""Where finished pictures and sound go."""

from avatarfit.output.contact_sheet import contact_sheet, side_by_side
from avatarfit.output.options import OutputOptions, check_output, output_format
from avatarfit.output.picture_file import write_png
from avatarfit.output.sink import Sink, open_sink

__all__ = [
    "OutputOptions",
    "Sink",
    "check_output",
    "contact_sheet",
    "open_sink",
    "output_format",
    "side_by_side",
    "write_png",
]
