"""Images encoded by graphs have the features of images encoded at once."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from blip_space.catalogue import find_model
from blip_space.engine import model_runner
from blip_space.engine.image_graphs import MAX_IMAGES, ImageGraphs
from blip_space.loading.loader import load_model
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions
from tests.engine.fake_graphs import RecordingBackend, recording_graphs
from tests.engine.models.driving import make_core
from tests.photographs import photograph

TOLERANCE = 1e-4


def make_pixels(model: VisionLanguageModel, count: int) -> list[torch.Tensor]:
    """Images that all differ."""
    images = [Image.linear_gradient("L").rotate(17 * number).convert("RGB") for number in range(count)]
    return [model.preparation.pixels(image, GenerationOptions()) for image in images]


def new_image_graphs(model: VisionLanguageModel, limit_bytes: int = 10**8) -> tuple[ImageGraphs, RecordingBackend]:
    graphs, backend = recording_graphs(limit_bytes, of_steps_only=False)
    return ImageGraphs(model, graphs.for_function("encode images", 1.0)), backend


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("count", "replays"), [(1, 1), (2, 1), (3, 1), (MAX_IMAGES, 1), (MAX_IMAGES + 1, 2), (2 * MAX_IMAGES + 3, 3)]
)
def test_replays_have_the_features_of_all_images_at_once(model: VisionLanguageModel, count: int, replays: int) -> None:
    images, backend = new_image_graphs(model)
    images.warm_up()
    assert backend.captures == 1
    while images.capture_pending():
        pass
    assert backend.captures == 4
    pixels, before = make_pixels(model, count), backend.replays
    first, expected = images.encode(pixels), model.encode_images(pixels)
    assert backend.replays - before == replays
    images.encode(pixels[::-1])
    assert len(first) == count  # and not overwritten by the second replay
    for features, own in zip(first, expected, strict=True):
        torch.testing.assert_close(features, own, rtol=TOLERANCE, atol=TOLERANCE)


def test_without_their_graph_images_are_encoded_together_until_it_is_captured(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, backend = new_image_graphs(model)
    batches, encode = list[int](), model.encode_pixels

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        batches.append(len(pixels))
        return encode(pixels)

    pixels = make_pixels(model, 2 * MAX_IMAGES + 1)
    with monkeypatch.context() as patched:
        patched.setattr(model, "encode_pixels", counting)
        assert len(images.encode(pixels)) == len(pixels)
        assert batches == [len(pixels)]
    assert images.capture_pending()
    assert not images.capture_pending()
    before = backend.replays
    images.encode(pixels[:MAX_IMAGES])
    assert backend.replays == before + 1


@pytest.mark.usefixtures("recorded")
def test_graphs_that_fail_are_off_and_the_status_says_so(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decode steps still have theirs."""
    graphs, _ = recording_graphs(of_steps_only=False)
    monkeypatch.setattr(model_runner, "new_step_graphs", lambda *_, **__: graphs)
    monkeypatch.setattr(ImageGraphs, "_encode", lambda *_: 1 / 0)
    core = make_core(model, slots=True)
    mode, status = core.decode_mode
    assert mode == "graphs"
    assert status.startswith("on, 4 captured")
    assert status.endswith("; to encode images: off: ZeroDivisionError: division by zero")
    pixels = make_pixels(model, 2)
    features = core._runner._images.encode(pixels)
    torch.testing.assert_close(features, model.encode_images(pixels))


def test_a_graph_of_two_encoders_names_the_photograph() -> None:
    """The choice between the encoders is part of the graph, so that it must not be made by the host."""
    model = load_model(find_model("tiny"), "fp32")
    images, backend = new_image_graphs(model, 10**9)
    images.warm_up()
    while images.capture_pending():
        pass
    assert backend.captures == 4
    pixels = make_pixels(model, 3)
    with Image.open(photograph("chelsea.png")) as image:
        pixels.insert(1, model.preparation.pixels(image, GenerationOptions()))
    before = backend.replays
    captured = images.encode(pixels)
    assert backend.replays == before + 1
    for features, own in zip(captured, model.encode_images(pixels), strict=True):
        torch.testing.assert_close(features, own, rtol=TOLERANCE, atol=TOLERANCE)
    assert model.photo_encoder is not None
    assert (captured[1] == model.photo_encoder.reports).all(-1).all(-1).any()
