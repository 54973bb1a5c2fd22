"""Video and audio in and out, through PyAV; nothing else knows containers or codecs.

Time is seconds from the clip's first video frame; colours are sRGB-coded 8-bit RGB, upright.
"""

from avatarfit.media.ahead import ahead
from avatarfit.media.frame_rate import exact_rate, parse_rate
from avatarfit.media.joining import join_videos
from avatarfit.media.probe import MediaInfo, probe
from avatarfit.media.resampling import StreamResampler, resample
from avatarfit.media.sound import SoundSpan, covering, read_audio, sound_span, write_wav
from avatarfit.media.sound_blocks import SoundBlocks, sound_blocks
from avatarfit.media.timecode import Timecode
from avatarfit.media.video_reader import check_whole, read_gray_video, read_pictures_at, read_video
from avatarfit.media.video_writer import VideoWriter

__all__ = [
    "MediaInfo",
    "SoundBlocks",
    "SoundSpan",
    "StreamResampler",
    "Timecode",
    "VideoWriter",
    "ahead",
    "check_whole",
    "covering",
    "exact_rate",
    "join_videos",
    "parse_rate",
    "probe",
    "read_audio",
    "read_gray_video",
    "read_pictures_at",
    "read_video",
    "resample",
    "sound_blocks",
    "sound_span",
    "write_wav",
]
