"""`avatarfit serve`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from avatarfit.cli.picture_options import PictureChoice
from avatarfit.cli.types import MaybePath, MaybeText

if TYPE_CHECKING:
    from avatarfit.model.avatar import Avatar
    from avatarfit.server.sessions import Begin
    from avatarfit.server.settings import ServerSettings
    from avatarfit.server.standing import Standing
    from avatarfit.server.voices import OfferedVoice

_NEEDED = "aiortc", "fastapi", "prometheus_client", "uvicorn", "websockets"


@dataclass(frozen=True)
class Serve:
    """Let avatars speak live, in a browser and to programs (docs/serve.md)."""

    avatars: tyro.conf.Positional[tuple[Path, ...]]
    """The avatar files; a file's name without .avatar is what requests use."""
    host: str = "127.0.0.1"
    """The address to listen at; anything but this machine's own needs --token."""
    port: int = 8460
    """0 for any that is free."""
    token: MaybeText = None
    """What clients must know, 16 letters or more; auto makes one and prints it."""
    sessions: int = 4
    """How many may run at a time; one more is refused."""
    idle_seconds: float = 60.0
    """A session that nobody watches or asks for is closed after so long."""
    voice: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A command that speaks, besides eSpeak NG: NAME=COMMAND, or NAME:RATE=COMMAND where it writes raw samples. It gets
    the text on standard input, or where {text} stands. May be given again."""
    piper: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Piper voice, .onnx with its .onnx.json beside it. May be given again."""
    push: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Send a session that always runs to a streaming service: rtmp://, rtmps://, srt://, tcp:// or udp://. May be given
    again."""
    camera: bool = False
    """Show that session as a camera of this machine (pyvirtualcam)."""
    origin: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A page of another server that may use this one, such as https://example.org. May be given again."""
    certificate: MaybePath = None
    """A certificate, PEM, for https. Browsers give microphones to https and to this machine alone."""
    key: MaybePath = None
    """Its private key, PEM."""
    in_one_process: bool = False
    """Keep all sessions in this process. On Linux each else has one of its own, so that several keep all cores busy."""
    features: MaybeText = None
    """What the avatars' driver hears, if it is a network: its folder or its name on the hub, as fit was told."""
    require_consent: bool = False
    """Refuse an avatar that records nobody's consent."""
    picture: Annotated[PictureChoice, tyro.conf.arg(name="")] = field(default_factory=PictureChoice)

    def run(self) -> int:
        """Serve until it is stopped; the exit code."""
        from avatarfit.contracts import InputError

        _check_installed()
        # What is wrong with the words is said before avatars are read.
        settings, voices = self._settings(), self._voices()
        asked_threads = _share_threads(settings.most_sessions)
        from avatarfit.server.app import create_app
        from avatarfit.server.running import address, listen, server_of

        with listen(settings) as place, ExitStack() as held:
            avatars = self._avatars()
            begin = held.enter_context(self._beginning(avatars, asked_threads))
            where = address(settings, place.getsockname()[1], self.certificate is not None)
            app = create_app(avatars, settings, voices, self._standing(where), begin)
            server = server_of(app, settings, self.certificate, self.key)
            # What is wrong with an avatar or an option is said at once, and the first session waits for nothing.
            for name in avatars:
                begin(name, settings.live).close()
            print(f"{', '.join(avatars)}: {where}", flush=True)
            if not voices:
                print("No voice for texts: install espeak-ng, or add --voice NAME=COMMAND.", flush=True)
            if not settings.loopback and self.certificate is None:
                print("Browsers give no microphone to http: add --certificate and --key.", flush=True)
            try:
                server.run(sockets=[place])
            except KeyboardInterrupt:
                print("Stopped.")
        if not server.started:
            raise InputError("the server did not start", "one that runs", "see what it said before")
        return 0

    def _avatars(self) -> dict[str, Avatar]:
        """By name.

        Raises:
            InputError: none, a name twice, or no consent where it is needed.
        """
        from avatarfit.contracts import InputError
        from avatarfit.model.avatar import Avatar
        from avatarfit.pipeline.origin import check_consent

        if not self.avatars:
            raise InputError("no avatar came", "one or more avatar files", "write avatarfit serve anna.avatar")
        out: dict[str, Avatar] = {}
        for path in self.avatars:
            if path.stem in out:
                raise InputError(f"two avatars came as {path.stem}", "a name for each", "rename one of the files")
            avatar = out[path.stem] = Avatar.load(path)
            if self.require_consent:
                check_consent(avatar)
        return out

    @contextmanager
    def _beginning(self, avatars: dict[str, Avatar], asked_threads: str) -> Iterator[Begin]:
        """What begins sessions."""
        from avatarfit.pipeline.live import LiveSession
        from avatarfit.pipeline.live_workers import AVAILABLE, LiveWorkers

        if self.in_one_process or not AVAILABLE:
            yield lambda name, options: LiveSession(avatars[name], options)
        else:
            most = {"most_threads": int(asked_threads)} if asked_threads.isdigit() else {}
            with LiveWorkers(avatars, **most) as workers:
                yield workers.session

    def _settings(self) -> ServerSettings:
        """As the server takes them.

        Raises:
            InputError: one of them cannot be used.
        """
        from avatarfit.compositing import parse_background
        from avatarfit.pipeline.live import LiveOptions
        from avatarfit.server.settings import ServerSettings, new_token

        picture = self.picture.settings()
        live = LiveOptions(
            frame_rate_hz=None if picture.rate is None else float(picture.rate), picture=picture,
            background=parse_background(self.picture.background), features=self.features,
        )  # fmt: skip
        return ServerSettings(
            self.host, self.port, new_token() if self.token == "auto" else self.token, self.sessions,
            idle_seconds=self.idle_seconds, origins=self.origin, live=live,
        )  # fmt: skip

    def _standing(self, where: str) -> Standing | None:
        """What always runs, if something does.

        Raises:
            InputError: it cannot.
        """
        from avatarfit.server.push import Push
        from avatarfit.server.standing import Output, Standing
        from avatarfit.server.virtual_camera import VirtualCamera

        def tell(sentence: str) -> None:
            print(sentence, flush=True)

        outputs: list[Output] = [Push(url, tell) for url in self.push]
        if self.camera:
            outputs.append(VirtualCamera(tell))
        if not outputs:
            return None
        steered = where + ("&" if "?" in where else "?")
        return Standing(outputs, lambda id: tell(f"What is sent is steered at {steered}session={id}"), tell)

    def _voices(self) -> list[OfferedVoice]:
        from avatarfit.server.voices import command_offer, installed_voices, piper_offer

        told = [command_offer(words) for words in self.voice] + [piper_offer(model) for model in self.piper]
        return told + installed_voices()


def _check_installed() -> None:
    """Raises:
    InputError: what a server needs is not there.
    """
    from importlib.util import find_spec

    from avatarfit.contracts import InputError

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed", "what a server needs",
            "run pip install 'avatarfit[live]'",
        )  # fmt: skip


def _share_threads(sessions: int) -> str:
    """Sessions draw at the same time; kernels with a thread for every core in each would only wait for each other.

    Returns:
        what the environment asked for before, empty if nothing.
    """
    import torch

    asked = os.environ.get("AVATARFIT_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // sessions)
    os.environ.setdefault("AVATARFIT_THREADS", str(threads))
    torch.set_num_threads(threads)
    return asked
