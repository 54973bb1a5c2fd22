"""The driver's controls as requests write them, and as a page shows them: each is stated once."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from avatarfit.driving import Settings
from avatarfit.driving.control_values import GAZE_LIMIT_DEGREES, HIGHEST
from avatarfit.driving.emotions import EMOTIONS

_USUAL = 1.0
_Degrees = Annotated[float, Field(strict=True, ge=-GAZE_LIMIT_DEGREES, le=GAZE_LIMIT_DEGREES)]


def _amount(name: str, description: str) -> Any:
    return Field(None, strict=True, ge=0, le=HIGHEST[name], description=description)


class ControlValues(BaseModel):
    """Controls; null leaves one as the driver has it."""

    model_config = ConfigDict(extra="forbid")
    lip_opening: float | None = _amount("lip_opening", "How wide the lips part")
    expression: float | None = _amount("expression", "How lively the face is besides mouth and blinks")
    head_motion: float | None = _amount("head_motion", "How much head and shoulders move")
    blink_rate: float | None = _amount("blink_rate", "How often the eyes blink")
    gaze: Literal["free", "camera"] | tuple[_Degrees, _Degrees] | None = Field(
        None, description="Where the eyes look: free, camera, or degrees right and up of it"
    )
    emotion: Literal["none", *EMOTIONS] | None = Field(  # type: ignore[valid-type]
        None, description="What is laid over the face"
    )
    emotion_strength: float | None = _amount("emotion_strength", "How strong the emotion is")
    emotion_upper: float | None = _amount("emotion_upper", "Its strength in eyes and brows alone")
    emotion_lower: float | None = _amount("emotion_lower", "Its strength in the mouth alone")


class Control(BaseModel):
    """What a page needs to show one control."""

    name: str
    label: str
    description: str
    lowest: float | None = Field(description="Of a number.")
    highest: float | None = Field(description="Of a number.")
    usual: float | str = Field(description="What null stands for.")
    choices: list[str] = Field(description="Of a word.")


class ControlsInfo(BaseModel):
    """The controls of a session."""

    values: ControlValues
    controls: list[Control]


def controls_info(settings: Settings) -> ControlsInfo:
    """What is told of a session's controls."""
    return ControlsInfo(values=ControlValues(**asdict(settings)), controls=_CONTROLS)


def turned(settings: Settings, request: ControlValues) -> Settings:
    """The settings with what a request names; null goes back to what the driver does.

    Raises:
        InputError: a value out of its range.
    """
    return replace(settings, **{name: getattr(request, name) for name in request.model_fields_set})


def _control(name: str, description: str) -> Control:
    label = name.replace("_", " ").capitalize()
    if name in HIGHEST:
        highest = HIGHEST[name]
        return Control(
            name=name, label=label, description=description, lowest=0, highest=highest, usual=_USUAL, choices=[]
        )
    choices = ["none", *EMOTIONS] if name == "emotion" else ["free", "camera"]
    return Control(
        name=name, label=label, description=description, lowest=None, highest=None, usual=choices[0], choices=choices
    )


_CONTROLS = [_control(name, field.description or "") for name, field in ControlValues.model_fields.items()]
