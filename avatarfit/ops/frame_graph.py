"""Run-time frames as one CUDA graph: captured once, then replayed for new weights and poses by a single launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from avatarfit.contracts import BackendError
from avatarfit.ops._checks import check
from avatarfit.ops.backend import choose
from avatarfit.ops.frame import Frame
from avatarfit.ops.render import render_frames

MOVING = ("weights", "head", "torso", "background")
"""What may change from replay to replay; Gaussians and cameras are part of the capture."""


def own_inputs(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The same frames with copies of what moves, to be written in place."""
    return tuple(replace(f, **{name: getattr(f, name).detach().clone() for name in MOVING}) for f in frames)


class FrameGraph:
    """`render_frames` of one avatar or of a batch, without its cost on the host.

        graph = FrameGraph(frames)                      # waits for the device; every later call only launches
        pictures = graph.draw(frames_with_new_poses)    # uint8 [B, H, W, 3], overwritten by the next replay

    Or, where a network gives the weights, it can be captured as well, and reads its own input in place:

        graph = FrameGraph(frames, before=lambda own: own[0].weights.copy_(network(code)[0]))
        code.copy_(new_code)
        pictures = graph.replay()

    Copies and replays go onto torch's current stream, so work on another stream that reads the pictures or writes the
    inputs must be ordered with it by events, as with any tensor. The graph keeps the Gaussians, its inputs, its
    pictures and its scratch memory for as long as it lives. One replay at a time.

    Attributes:
        frames: the inputs that replays read. The Gaussians are those given; weights, poses and backgrounds are
            copies of its own.
        pictures: uint8 [B, H, W, 3], what the last replay drew.

    Args:
        frames: as for `render_frames`, on a CUDA device.
        before: captured ahead of the drawing; given `self.frames`, to be written in place. Called twice, once to warm
            up; it may wait for nothing and must work in place on tensors that outlive the graph.

    Raises:
        BackendError: there is no CUDA device, or the frames are not on one.
        ValueError: as `render_frames`.
    """

    def __init__(self, frames: Sequence[Frame], before: Callable[[tuple[Frame, ...]], object] | None = None) -> None:
        choose("cuda")
        if not frames:
            raise ValueError("frames came empty; wanted at least one")
        for frame in frames:
            if frame.background.device.type != "cuda":
                raise BackendError(
                    f"frames came on {frame.background.device}",
                    "frames on cuda",
                    "use render_frames, or move them there",
                )
        self.frames = own_inputs(frames)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(frames[0].background.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                # What may not happen in a capture happens here, once: loading kernels, looking at group numbers.
                self._launch(before)
            # torch waits for the device, then captures. The frames' table is a kernel's argument, which the graph holds
            # by value; pictures and scratch memory come from the graph's own pool.
            with torch.cuda.graph(self._graph, stream=stream):
                self.pictures = self._launch(before)

    @torch.no_grad()
    def _launch(self, before: Callable[[tuple[Frame, ...]], object] | None) -> Tensor:
        if before is not None:
            before(self.frames)
        return render_frames(self.frames, backend="cuda")

    @torch.inference_mode()
    def draw(self, frames: Sequence[Frame]) -> Tensor:
        """Take over the frames' weights, poses and backgrounds, then `replay`.

        Args:
            frames: of the Gaussians, cameras and shapes that were captured, in that order. What is the very tensor in
                `self.frames` is not copied.

        Raises:
            ValueError: they are not.
        """
        if len(frames) != len(self.frames):
            raise ValueError(f"{len(frames)} frames came; wanted {len(self.frames)}, as captured")
        for number, (new, old) in enumerate(zip(frames, self.frames, strict=True)):
            if new.gaussians is not old.gaussians or new.camera != old.camera:
                raise ValueError(f"frame {number} came with other Gaussians or another camera; wanted those captured")
            for name in MOVING:
                check(name, getattr(new, name), tuple(getattr(old, name).shape), getattr(old, name).dtype)
        for new, old in zip(frames, self.frames, strict=True):
            for name in MOVING:
                if getattr(new, name) is not getattr(old, name):
                    getattr(old, name).copy_(getattr(new, name), non_blocking=True)
        return self.replay()

    def replay(self) -> Tensor:
        """Draw `self.frames` as they now are.

        Returns:
            `self.pictures`. Nothing is waited for.
        """
        self._graph.replay()
        return self.pictures
