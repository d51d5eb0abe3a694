"""Laws of the decoding options."""

from typing import Any

import pytest

from blip_space.errors import UserError
from blip_space.options import RANGES, GenerationOptions, check


def test_no_values_are_the_defaults() -> None:
    assert check() == GenerationOptions()


@pytest.mark.parametrize("name", RANGES)
def test_both_ends_of_every_range_are_allowed(name: str) -> None:
    for value in (RANGES[name].low, RANGES[name].high):
        assert getattr(check(**{name: value}), name) == value


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [-1, 1e30, float("nan"), float("inf"), "64", None, True, [1], {}])
def test_the_message_about_an_invalid_value_has_the_range(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"{name} must be a (whole )?number from .+ to .+\."):
        check(**{name: value})


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000, 1e308], ids="abcd")
def test_a_number_of_hundreds_of_digits_is_rejected(name: str, value: float) -> None:
    """It raised OverflowError."""
    with pytest.raises(UserError, match=rf"{name} must be .+; the given number is far outside this range\."):
        check(**{name: value})


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(UserError, match=r"quality is 'x{39}…'; it must be"):
        check(quality="x" * 100)
    with pytest.raises(UserError, match=r"quality is '\\udc80'; it must be"):
        check(quality="\udc80")


def test_integers_may_be_floats_and_fractions_are_rejected() -> None:
    value = check(max_new_tokens=64.0).max_new_tokens
    assert value == 64
    assert isinstance(value, int)
    with pytest.raises(UserError, match="whole number"):
        check(max_new_tokens=1.5)


def test_beam_search_with_a_temperature_is_rejected() -> None:
    with pytest.raises(UserError, match="does not sample"):
        check(quality="best", temperature=0.5)


def test_an_unknown_quality_and_an_unknown_setting_are_rejected() -> None:
    with pytest.raises(UserError, match="'stream' or 'best'"):
        check(quality="excellent")
    with pytest.raises(UserError, match="no setting 'beams'"):
        check(beams=3)


def test_a_temperature_that_overflows_is_rejected() -> None:
    """It raised an error in torch, which was reported as a bug."""
    with pytest.raises(UserError, match=r"temperature must be 0, .* or from 0\.01 to 2"):
        check(temperature=1e-40)
    assert check(temperature=0.01).temperature == 0.01
