"""Every error for users has a code, which is in the list that the documents show."""

from __future__ import annotations

import pickle
from typing import get_args

import pytest

from blip_space import errors
from blip_space.reasons import Reason

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.UserError)]


def test_every_code_has_a_meaning() -> None:
    assert tuple(errors.CODES) == get_args(errors.Code)
    assert sorted(errors.CODES) == list(errors.CODES)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_code_of_its_class_or_its_own(kind: type[errors.UserError]) -> None:
    assert kind("A sentence.").code in errors.CODES
    error = kind("A sentence.", code="too_large")
    assert (str(error), error.code) == ("A sentence.", "too_large")


def test_a_code_is_kept_between_processes() -> None:
    sent = errors.ImageError("A sentence.", code="too_large", detail="bytes", values={"megabytes": 20})
    error = pickle.loads(pickle.dumps(sent))
    assert (type(error), str(error), error.code) == (errors.ImageError, "A sentence.", "too_large")
    assert (error.detail, error.values) == ("bytes", {"megabytes": 20})


def test_a_reason_is_a_text_with_a_code_and_is_kept_between_processes() -> None:
    counted = Reason("2 of 3 are ready", "replicas", ready=2, total=3)
    joined = pickle.loads(pickle.dumps(Reason.joined([counted, "", "a sentence"])))
    assert joined == "2 of 3 are ready; a sentence"
    assert [type(part) for part in joined.parts] == [Reason, str]
    assert (joined.parts[0].code, joined.parts[0].values) == ("replicas", {"ready": 2, "total": 3})


def test_values_of_an_error_are_kept_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.PromptError("A sentence.", values={"percent": 20})))
    assert error.values == {"percent": 20}
