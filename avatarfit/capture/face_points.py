"""Which of MediaPipe's 478 landmarks mean what to capture.

`RIGID` was chosen by measurement: landmarks above the nose's base that move least against the skull while people talk,
spread evenly, both sides of the face, lids and brows left out.
"""

from __future__ import annotations

import numpy as np

# fmt: off
RIGID = np.array([
    3, 4, 9, 10, 20, 21, 31, 33, 34, 35, 36, 49, 50, 51, 54, 67, 68, 69, 71, 93, 98, 100, 101, 103, 104, 108, 109,
    111, 113, 114, 116, 117, 118, 119, 122, 123, 125, 126, 127, 129, 137, 139, 143, 147, 151, 156, 162, 166, 168,
    174, 189, 193, 197, 198, 220, 222, 224, 227, 229, 231, 233, 234, 248, 250, 251, 261, 263, 264, 265, 266, 279,
    280, 281, 284, 297, 298, 299, 301, 323, 327, 329, 330, 332, 333, 337, 338, 340, 343, 345, 346, 347, 348, 351,
    352, 353, 354, 355, 356, 358, 366, 368, 372, 389, 392, 399, 413, 417, 420, 440, 442, 443, 445, 447, 449, 451,
    453, 454,
])
"""Landmarks that move with the skull, int [117]."""

JAW_LINE = np.array([
    93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323,
])
"""From beside the earlobe at the picture's left (the person's right), round the chin, to the other earlobe."""

INNER_LIPS = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95])
"""The mouth's opening, once round."""

OUTER_LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185])
"""The lips' outline, once round."""

FACE_OVAL = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
])
"""Outline of the face, once round."""

BARE_SKIN = (
    np.array([116, 117, 118, 101, 36, 203, 206, 216, 207, 187, 123]),
    np.array([345, 346, 347, 330, 266, 423, 426, 436, 427, 411, 352]),
    np.array([108, 151, 337, 336, 9, 107]),
)
"""Polygons that show skin on nearly everyone: both cheeks and the middle of the forehead."""

EYES_AND_BROWS = np.array([
    33, 246, 161, 160, 159, 158, 157, 173, 133, 7, 163, 144, 145, 153, 154, 155,
    263, 466, 388, 387, 386, 385, 384, 398, 362, 249, 390, 373, 374, 380, 381, 382,
    70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276,
])
"""Edges of the lids and the brows."""

OUTER_EYE_CORNERS = (33, 263)
MOUTH_CORNERS = (61, 291)
FOREHEAD_TOP, CHIN = 10, 152
# fmt: on
