"""The library with a model of another server."""

from __future__ import annotations

import pytest

import blip_space
from blip_space import catalogue
from blip_space.errors import ModelError, UserError
from blip_space.loading import loader
from tests.example_images import blue_circles
from tests.serving.remote.openai_server import OpenAIServer

CAPTION = "Describe this image in one sentence, in English. of echo"


def test_a_program_asks_a_remote_model_as_any_other(server: OpenAIServer) -> None:
    with blip_space.load(server.name("echo")) as engine:
        assert (engine.model, engine.precision) == ("echo", "remote")
        assert engine.ask(blue_circles(), "Why?", language="de") == "Why? Answer in German. of echo"
        captions = list(engine.captions([blue_circles(1), b"no image", blue_circles(2)]))
        assert [captions[0], captions[2]] == [CAPTION, CAPTION]
        assert isinstance(captions[1], UserError)


def test_weights_of_a_remote_model_cannot_be_loaded(server: OpenAIServer) -> None:
    with pytest.raises(ModelError, match=f"is computed by {server.host}"):
        loader.load_model(catalogue.find_model(server.name("echo"), folders=True))
    with pytest.raises(ModelError, match="Leave --precision out"):
        blip_space.load(server.name("echo"), precision="int4")
