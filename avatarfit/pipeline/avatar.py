"""An avatar that can be driven: what `avatarfit.Avatar` is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avatarfit.model import avatar as model
from avatarfit.pipeline.drive import drive_avatar


class Avatar(model.Avatar):
    """One person, loaded from an avatar file or fresh from `avatarfit.fit`.

    `Avatar.load(path)`, `avatar.save(path)`, `avatar.drive(sound, output)` and `avatar.dub(video, sound, output)`.
    """

    def drive(self, sound: Path | str, output: Path | str, **options: Any) -> Path:
        """Makes a video of the person saying `sound`; options as `avatarfit.pipeline.drive.drive_avatar`.

        Returns:
            the video's path.
        """
        drive_avatar(self, Path(sound), Path(output), **options)
        return Path(output)

    def dub(self, video: Path | str, sound: Path | str, output: Path | str, **options: Any) -> Path:
        """Lets the person in a video say the sound; options as `avatarfit.pipeline.dub.dub_video`.

        Returns:
            the new video's path.
        """
        from avatarfit.pipeline.dub import dub_video

        dub_video(self, video, sound, output, **options)
        return Path(output)
