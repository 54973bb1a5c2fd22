"""Side-by-side pictures of judged frames: an even sample, and the worst."""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np

from avatarfit.compositing import to_uint8
from avatarfit.output import side_by_side, write_png

SAMPLES, WORST = 8, 10


class PictureLog:
    """Keeps at most eighteen "truth | render | error x 4" pictures.

    Args:
        folder: where `write` puts them; None for nowhere.
        indices: the frames that will come, to spread the samples over.
        keep: keep the worst pictures even without a folder, for `worst_pictures`.
    """

    def __init__(self, folder: str | Path | None, indices: list[int], keep: bool = False) -> None:
        self._keep = keep
        self._folder = None if folder is None else Path(folder)
        chosen = np.linspace(0, len(indices) - 1, min(SAMPLES, len(indices))).round().astype(int)
        self._wanted = {indices[k] for k in chosen}
        self._samples: list[tuple[int, np.ndarray]] = []
        self._worst: list[tuple[float, int, np.ndarray | None]] = []

    def add(self, index: int, truth: np.ndarray, picture: np.ndarray, figures: dict[str, float]) -> None:
        """Take frame `index` in: truth uint8 [H, W, 3], picture float [H, W, 3], its figures."""
        quality = figures.get("person.psnr_db", figures["whole_frame.psnr_db"])
        is_worst = len(self._worst) < WORST or -quality > self._worst[0][0]
        is_sample = index in self._wanted
        wanted = (is_worst and (self._keep or self._folder is not None)) or (is_sample and self._folder is not None)
        row = side_by_side(truth, to_uint8(picture)) if wanted else None
        if is_sample and self._folder is not None and row is not None:
            self._samples.append((index, row))
        if is_worst:
            keep = heapq.heappush if len(self._worst) < WORST else heapq.heappushpop
            keep(self._worst, (-quality, index, row))

    def worst_frames(self) -> list[dict[str, float]]:
        """Worst first: `{index, psnr_db}`, of the person where there is one."""
        ranked = sorted(self._worst, key=lambda item: (-item[0], item[1]))
        return [{"index": index, "psnr_db": round(-badness, 3)} for badness, index, _ in ranked]

    def worst_pictures(self) -> list[tuple[int, float, np.ndarray]]:
        """Worst first: index, PSNR in dB, "truth | render | error x 4" uint8 [H, 3 W, 3]; none where none were kept."""
        ranked = sorted(self._worst, key=lambda item: (-item[0], item[1]))
        return [(index, -badness, row) for badness, index, row in ranked if row is not None]

    def write(self) -> Path | None:
        """Write the pictures; the folder, which is made, or None where no pictures were wanted."""
        if self._folder is None:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        for index, row in self._samples:
            write_png(self._folder / f"frame_{index:06d}.png", row)
        for rank, (badness, index, worst) in enumerate(sorted(self._worst, key=lambda item: (-item[0], item[1]))):
            if worst is not None:
                write_png(self._folder / f"worst_{rank:02d}_frame_{index:06d}_{-badness:.1f}dB.png", worst)
        return self._folder
