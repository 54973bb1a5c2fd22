"""Which colours a person's face, hair, neck and clothes have, and where they are: learned from a few pictures.

Nothing is brought along: certain places (cheeks, the crown above the forehead, the lowest rows) give first colours,
these label whole pictures, and the labels give better colours and a map of places in the head's own coordinates; three
rounds of that, as in hard expectation-maximisation. Hair must hang together with the crown, however far down it falls;
the neck with the jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatarfit.capture.clip_folder import FACE, HAIR, NECK, TORSO
from avatarfit.capture.face_points import BARE_SKIN, CHIN, FOREHEAD_TOP
from avatarfit.capture.part_zones import Zones, bans, fill_polygon, working_scale
from avatarfit.capture.picture_maps import HeadMapper, head_map

PARTS = (FACE, HAIR, NECK, TORSO)
"""The labels that colour and place decide, in the order of the scores' channels."""

LEVELS_PER_NAT = 16
"""Scores are uint8: natural logarithms of likelihoods, 16 levels each."""

_BINS = 32
_COLOR_RANGE, _PLACE_RANGE = 4.0, 4.0
_BAN = 160
_ROUNDS = 3
_LIGHTS, _SHADES = np.linspace(0.8, 1.25, 10), np.linspace(0.55, 1.25, 15)
_FEWEST_HAIR = 0.01
_HAIRY, _DRESSED = 0.3, 0.3
_OUTLINE = 2 * LEVELS_PER_NAT


def color_index(rgb: np.ndarray) -> np.ndarray:
    """uint16 [...], the cell of the colour table, from uint8 [..., 3]: five bits of red, green and blue each."""
    import cv2

    if not rgb.size:
        return np.zeros(rgb.shape[:-1], np.uint16)
    flat = cv2.cvtColor(rgb.reshape(1, -1, 3) if rgb.ndim != 3 else rgb, cv2.COLOR_RGB2BGR555)
    return np.asarray(flat).view(np.uint16).reshape(rgb.shape[:-1])


@dataclass(frozen=True)
class Sample:
    """One picture to learn from, at the working size: rgb uint8 [h, w, 3], landmarks [478, 2], person uint8 [h, w]."""

    rgb: np.ndarray
    landmarks_px: np.ndarray
    person: np.ndarray

    @classmethod
    def of(cls, rgb: np.ndarray, landmarks_px: np.ndarray, person: np.ndarray) -> Sample:
        """From a picture at the clip's size [H, W, 3], its landmarks [478, 2+] and its mask of any size."""
        import cv2

        height, width = rgb.shape[:2]
        scale = working_scale(height, width)
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        return cls(
            cv2.resize(rgb, size, interpolation=cv2.INTER_AREA),
            landmarks_px[:, :2].astype(np.float64) * (size[0] / width, size[1] / height),
            cv2.resize(person, size, interpolation=cv2.INTER_AREA),
        )


class PartModel:
    """Colours and places of a person's parts.

    Attributes:
        colors: uint8 [32768, 4], score of each colour cell for each of PARTS.
        places: uint8 [h, w, 4], score of each place of the reference picture.
        reference_px: [478, 2], the reference picture's landmarks.
    """

    def __init__(self, colors: np.ndarray, places: np.ndarray, reference_px: np.ndarray) -> None:
        self.colors, self.places, self.reference_px = colors, places, reference_px
        self._packed = np.ascontiguousarray(colors).view(np.uint32).ravel()
        self._packed_places = np.ascontiguousarray(places).view(np.float32)[..., 0]
        self._heads = HeadMapper(reference_px)

    @classmethod
    def learn(cls, samples: list[Sample]) -> PartModel:
        """From one picture or more, the first of which becomes the reference.

        Raises:
            ValueError: no picture.
        """
        if not samples:
            raise ValueError("the part model was given no picture")
        zones = [Zones.of(s.landmarks_px, s.person.shape) for s in samples]
        seeds = _seeds(samples, zones)
        colors = _scored(_above_the_jaw(samples, zones, seeds))
        nowhere = np.zeros((*samples[0].person.shape, len(PARTS)), np.uint8)
        model = cls(colors, nowhere, samples[0].landmarks_px)
        for _ in range(_ROUNDS):
            labelled = [_joined(model.scores(s), s, z) for s, z in zip(samples, zones, strict=True)]
            model = cls(_colors_of(samples, labelled), _places_of(samples, labelled), samples[0].landmarks_px)
        return model

    def scores(self, sample: Sample) -> np.ndarray:
        """uint8 [h, w, 4]: how well each pixel fits each of PARTS; what its place forbids is 0."""
        import cv2

        height, width = sample.person.shape
        # Four scores of a byte each are looked up as one number.
        found = self._packed.take(color_index(sample.rgb)).view(np.uint8).reshape(height, width, len(PARTS))
        warp = self._heads.to(sample.landmarks_px)
        # The map of places is smooth: its nearest pixel will do, whose four bytes are taken along as one number.
        places = cv2.warpAffine(
            self._packed_places, warp, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        places = places.view(np.uint8).reshape(found.shape)
        fit = cv2.blur(cv2.add(found, places), (3, 3))
        return np.asarray(cv2.subtract(fit, bans(sample.landmarks_px, sample.person.shape, _BAN)))


@dataclass(frozen=True)
class _Seeds:
    """Densities [32768] over the colour cells: bare skin, skin in much the same light, skin in light and shade, the
    crown, the lowest rows."""

    skin: np.ndarray
    lit: np.ndarray
    shaded: np.ndarray
    crown: np.ndarray
    low: np.ndarray


def _seeds(samples: list[Sample], zones: list[Zones]) -> _Seeds:
    skin, lit, shaded, crown, low = (np.zeros(_BINS**3) for _ in range(5))
    for s, z in zip(samples, zones, strict=True):
        bare = np.zeros(s.person.shape, np.uint8)
        for polygon in BARE_SKIN:
            bare |= fill_polygon(bare.shape, s.landmarks_px[polygon])
        pixels = s.rgb[bare > 0]
        _count(skin, color_index(pixels))
        for histogram, shades in ((lit, _LIGHTS), (shaded, _SHADES)):
            for shade in shades:
                _count(histogram, color_index(np.minimum(pixels * shade, 255).astype(np.uint8)))
        inside = s.person > 250
        _count(crown, color_index(s.rgb[inside & z.crown]))
        _count(low, color_index(s.rgb[inside & _lowest(s, z)]))
    return _Seeds(*(_smoothed(h) for h in (skin, lit, shaded, crown, low)))


def _above_the_jaw(samples: list[Sample], zones: list[Zones], seeds: _Seeds) -> list[np.ndarray]:
    """Densities of PARTS once face and hair were told apart, by colour and by the face's outline.

    The crown alone does not show all of a person's hair: streaks and tips are brighter than roots. Nor do the lowest
    rows show clothes alone. So the hair is found first where nothing else but the face can be.
    """
    # A bald crown is skin in other light.
    unlike = ~_holding(seeds.lit, 0.98)
    hair = np.where(unlike, seeds.crown, 0) if seeds.crown[unlike].sum() > _HAIRY else np.zeros_like(seeds.crown)
    colors = _scored([seeds.skin, hair, np.zeros_like(hair), np.zeros_like(hair)])
    found = [np.zeros_like(hair), np.zeros_like(hair)]
    for s, z in zip(samples, zones, strict=True):
        cells = color_index(s.rgb)
        face, other = (colors[cells, k].astype(int) for k in range(2))
        is_hair = (other > np.where(z.oval, face + _OUTLINE, face - _OUTLINE)) & ~z.core
        sure = (s.person > 250) & z.above
        for histogram, part in zip(found, (sure & ~is_hair, sure & is_hair), strict=True):
            histogram += np.bincount(cells[part], minlength=_BINS**3)
    if found[1].sum() < _FEWEST_HAIR * found[0].sum() or not hair.any():
        found[1][:] = 0
    face_color, hair_color = (_smoothed(h) for h in found)
    low = np.where(seeds.low > 2 * hair_color, seeds.low, 0)
    # Of bare shoulders nothing is unlike skin: only their place tells them from the neck.
    dressed = low[~_holding(seeds.shaded, 0.98)].sum() >= _DRESSED * seeds.low.sum()
    cloth = np.where(dressed & (low > 2 * seeds.shaded), low, 0)
    return [face_color, hair_color, seeds.shaded, cloth]


def _holding(density: np.ndarray, share: float) -> np.ndarray:
    """bool [32768]: the fewest cells that hold this share of a density."""
    order = np.argsort(density)[::-1]
    out = np.zeros(len(density), bool)
    out[order[: int(np.searchsorted(np.cumsum(density[order]), share)) + 1]] = True
    return out


def _lowest(s: Sample, z: Zones) -> np.ndarray:
    """bool [h, w]: rows well below the chin, and the very last ones beside the neck, where the picture ends before."""
    face = np.linalg.norm(s.landmarks_px[CHIN] - s.landmarks_px[FOREHEAD_TOP])
    rows = np.arange(s.person.shape[0])[:, None]
    return (rows >= s.landmarks_px[CHIN, 1] + 0.45 * face) | ((rows >= 0.94 * len(rows)) & ~z.neck & ~z.above)


def _count(histogram: np.ndarray, cells: np.ndarray) -> None:
    if len(cells):
        histogram += np.bincount(cells, minlength=_BINS**3) / len(cells)


def _smoothed(histogram: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    total = histogram.sum()
    if not total:
        return histogram
    return gaussian_filter(histogram.reshape(_BINS, _BINS, _BINS) / total, 1.0).ravel()


def _scored(densities: list[np.ndarray]) -> np.ndarray:
    """uint8 [32768, 4] from four densities; every part may have any colour, clothes and hair a little rather."""
    flat = 1 / _BINS**3
    mixed = np.stack([d + share * flat for d, share in zip(densities, (0.05, 0.05, 0.05, 0.1), strict=True)], axis=1)
    if not densities[PARTS.index(HAIR)].any():
        mixed[:, PARTS.index(HAIR)] = 0.02 * flat  # a bald head: what nothing explains is rather clothes than hair
    logs = np.log(mixed)
    return _levels(logs, _COLOR_RANGE)


def _levels(logs: np.ndarray, reach: float) -> np.ndarray:
    best = logs.max(axis=-1, keepdims=True)
    return np.asarray(np.clip(logs - best + reach, 0, reach) * LEVELS_PER_NAT + 0.5, np.uint8)


def _joined(scores: np.ndarray, s: Sample, z: Zones) -> np.ndarray:
    """uint8 [h, w]: channel of PARTS plus one, 0 off the person; what hangs loose goes to the next best part."""
    here = s.person >= 128
    scores = scores.copy()
    seeds = {0: z.core, 1: z.crown, 2: z.under_jaw}
    for _ in range(2):
        best = np.where(here, scores.argmax(axis=2) + 1, 0)
        for channel, seed in seeds.items():
            loose = (best == channel + 1) & ~_touching(best == channel + 1, seed)
            scores[..., channel][loose] = 0
    best = scores.argmax(axis=2) + 1
    return np.asarray(np.where(here, best, 0), np.uint8)


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """bool [h, w]: the connected parts of a mask that reach into `seed`."""
    import cv2

    count, parts = cv2.connectedComponents(mask.astype(np.uint8))
    wanted = np.zeros(count, bool)
    wanted[parts[seed & mask]] = True
    wanted[0] = False
    return np.asarray(wanted[parts])


def _colors_of(samples: list[Sample], labelled: list[np.ndarray]) -> np.ndarray:
    counts = [np.zeros(_BINS**3) for _ in PARTS]
    areas = np.zeros(len(PARTS))
    for s, labels in zip(samples, labelled, strict=True):
        sure = s.person > 250
        cells = color_index(s.rgb)
        for channel in range(len(PARTS)):
            found = sure & (labels == channel + 1)
            counts[channel] += np.bincount(cells[found], minlength=_BINS**3)
            areas[channel] += found.sum()
    if areas[1] < _FEWEST_HAIR * areas[0]:
        counts[1][:] = 0  # bald: what little looks like hair is brows, shade or a microphone
    return _scored([_smoothed(c) for c in counts])


def _places_of(samples: list[Sample], labelled: list[np.ndarray]) -> np.ndarray:
    import cv2

    height, width = samples[0].person.shape
    total = np.zeros((height, width, len(PARTS)), np.float32)
    for s, labels in zip(samples, labelled, strict=True):
        back = head_map(s.landmarks_px, samples[0].landmarks_px)
        shares = np.dstack([(labels == channel + 1).astype(np.float32) for channel in range(len(PARTS))])
        total += cv2.warpAffine(shares, back, (width, height), borderMode=cv2.BORDER_REPLICATE)
    # Above the chin places are as sure as the landmarks; below, the body moves by itself.
    fine, rough = cv2.GaussianBlur(total, (0, 0), 2.0), cv2.GaussianBlur(total, (0, 0), 5.0)
    chin = samples[0].landmarks_px[CHIN, 1]
    below = np.clip((np.arange(height) - chin) / (0.1 * height), 0, 1)[:, None, None]
    total = fine * (1 - below) + rough * below + 0.02 * len(samples)
    return _levels(np.log(total / total.sum(axis=2, keepdims=True)), _PLACE_RANGE)
