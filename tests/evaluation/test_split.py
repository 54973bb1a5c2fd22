"""Which frames are held out: what the avatar says, what a person asks for, and what is refused."""

from __future__ import annotations

import pytest

from avatarfit.contracts import FileFormatError, InputError
from avatarfit.evaluation.clip_view import evenly
from avatarfit.evaluation.split import Split, runs, split_into, split_of

BLOCKS = {"split": {"name": "blocks", "held_out": [[10, 15], [40, 45]]}}


def test_the_last_eleventh_where_the_avatar_says_nothing() -> None:
    split = split_of({}, 44, 40)
    assert split.as_dict() == {"name": "last", "held_out": [[40, 44]]}
    assert split.training() == (range(40),)


def test_blocks_and_what_lies_between_them() -> None:
    split = split_of(BLOCKS, 50, 46)
    assert split.name == "blocks"
    assert split.training() == (range(10), range(15, 40), range(45, 50))
    assert evenly(split, True, None) == [*range(10, 15), *range(40, 45)]
    assert not set(evenly(split, False, 7)) & set(evenly(split, True, None))
    assert len(evenly(split, False, 7)) == 7
    assert Split("blocks", (range(5), range(45, 50)), 50).training() == (range(5, 45),)


def test_frames_that_the_avatar_has_seen_are_not_judged() -> None:
    with pytest.raises(InputError, match="it has seen the frames that last holds out"):
        split_of(BLOCKS, 50, 46, "last")
    with pytest.raises(InputError, match="--split came as blocks, and the avatar was fitted with last"):
        split_of({}, 50, 46, "blocks")
    assert split_of(BLOCKS, 50, 46, "blocks").name == "blocks"


@pytest.mark.parametrize(
    "told",
    [
        "blocks", {"name": "blocks"}, {"name": "some", "held_out": [[0, 5]]}, {"name": "blocks", "held_out": []},
        {"name": "blocks", "held_out": [[5, 5]]}, {"name": "blocks", "held_out": [[5, 9], [8, 12]]},
        {"name": "blocks", "held_out": [[5, 51]]}, {"name": "blocks", "held_out": [[-5, 9]]},
        {"name": "blocks", "held_out": [["a", "b"]]}, {"name": "blocks", "held_out": [[1]]},
    ],
)  # fmt: skip
def test_a_split_that_is_none_is_refused(told: object) -> None:
    with pytest.raises(FileFormatError, match="is none of a clip of 50 frames"):
        split_of({"split": told}, 50, 46)


def test_runs() -> None:
    assert runs([1, 2, 3, 7, 9, 10]) == [range(1, 4), range(7, 8), range(9, 11)]
    assert runs([]) == []


@pytest.mark.parametrize("total", [11, 60, 350, 1774])
def test_blocks_hold_an_eleventh_out_evenly_and_touch_neither_end(total: int) -> None:
    train_count = total - total // 11
    split = split_into("blocks", total, train_count)
    held = sum(len(part) for part in split.held_out)
    assert abs(held - total // 11) <= 3
    assert len(split.held_out) == min(6, total // 11)
    assert sum(len(part) for part in split.training()) + held == total
    assert split.held_out[0].start > 0
    assert split.held_out[-1].stop < total
    assert split_of({"split": split.as_dict()}, total, train_count) == split
    assert split_of({}, total, train_count) == split_into("last", total, train_count)
