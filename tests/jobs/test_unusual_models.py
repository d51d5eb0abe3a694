"""Models that generate only blanks, or one word again and again, in everything that drives the engine.

Cases blank-caption and caption-that-repeats: with the first, a greedy folder job never ended, an upload job and a beam
search accepted blanks as captions, and `ask` printed an empty line; the second was not noticed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from blip_space import catalogue, images
from blip_space.apps import cli
from blip_space.apps.cluster import worker, worker_pool
from blip_space.apps.cluster.replica import EngineReplica, PartialResponse
from blip_space.engine.answer_check import EMPTY_ANSWER
from blip_space.engine.local import LocalEngine
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import EmptyAnswerError
from blip_space.jobs.folder_captioner import Caption, Captioner, PendingCaption
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask
from blip_space.jobs.upload_job import UploadedImage, UploadJob
from blip_space.loading import loader
from blip_space.options import GenerationOptions, check
from blip_space.serving.threaded import ThreadedEngine
from tests.checkpoints.constant import SPACE, write_constant
from tests.example_images import blue_circles

IMAGE = images.decode(blue_circles())
QUALITIES = ("stream", "best")
LIMIT = 12


def decoding(quality: str, **changes: Any) -> GenerationOptions:
    return check(quality=quality, max_new_tokens=LIMIT, **changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two checkpoints."""
    root = tmp_path_factory.mktemp("models")
    return {"blank": write_constant(root / "blank", SPACE), "loop": write_constant(root / "loop", "at")}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        name: loader.load_model(catalogue.find_model(str(folder), folders=True), "fp32")
        for name, folder in folders.items()
    }


@pytest.fixture
def engine(models: dict[str, Any]) -> Iterator[ThreadedEngine]:
    """An engine with both models."""
    threaded = ThreadedEngine(
        [model.spec for model in models.values()],
        load=lambda spec, *_: models[spec.name],
        load_preparation=lambda spec: models[spec.name].preparation,
    )
    threaded.start()
    yield threaded
    threaded.stop()


def folder_caption(model: Any, options: GenerationOptions) -> Caption:
    captioner = Captioner(model, batch_size=4)
    image = LoadedImage("a.png", IMAGE.digest, prepared=captioner.prepare(IMAGE.pixels))
    ((caption,),) = [
        *captioner.add([PendingCaption(image, CaptionTask("m", "fp32", "en", "", options))]),
        *captioner.finish(),
    ]
    return caption


@pytest.mark.timeout(60)
@pytest.mark.parametrize("quality", QUALITIES)
def test_a_folder_job_with_blank_captions_ends_with_an_error_for_each_image(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], quality: str
) -> None:
    """With greedy decoding it never ended: the blank counted as an incomplete caption."""
    (tmp_path / "in").mkdir()
    for count in (1, 2, 3):
        (tmp_path / "in" / f"{count}.png").write_bytes(blue_circles(count))
    output = tmp_path / "out.jsonl"
    command = ["folder", str(tmp_path / "in"), "--output", str(output), "--quality", quality, "--max-new-tokens", "4"]
    assert cli.main([*command, "--model", str(folders["blank"])]) == 1
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [(row["caption"], row["error"]) for row in rows] == [(None, EMPTY_ANSWER)] * 3
    assert f"1.png: {EMPTY_ANSWER}" in capsys.readouterr().err


@pytest.mark.parametrize("quality", QUALITIES)
def test_ask_reports_a_blank_answer_in_one_line_and_exits_with_1(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], quality: str
) -> None:
    (tmp_path / "a.png").write_bytes(blue_circles())
    command = ["ask", str(tmp_path / "a.png"), "What is it?", "--quality", quality, "--max-new-tokens", "4"]
    assert cli.main([*command, "--model", str(folders["blank"])]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"blip-space: {EMPTY_ANSWER}"


@pytest.mark.parametrize("quality", QUALITIES)
def test_every_driver_of_the_engine_ends_a_blank_answer_with_the_error(
    engine: ThreadedEngine, models: dict[str, Any], quality: str
) -> None:
    request = Request(IMAGE, "What is it?", options=decoding(quality), model="blank")
    with pytest.raises(EmptyAnswerError, match="empty answer for this image"):
        list(engine.submit(request).updates(0.01))
    with pytest.raises(EmptyAnswerError, match="empty answer for this image"):
        list(LocalEngine(models["blank"]).generate(request))


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_caption_that_was_cut_off_in_a_loop_is_marked_by_every_driver(
    engine: ThreadedEngine, models: dict[str, Any], quality: str
) -> None:
    """A repetition penalty prevents it, with beam search as well."""
    for changes, looping in (({}, True), ({"repetition_penalty": 2.0}, False)):
        chosen = decoding(quality, **changes)
        request = Request(IMAGE, options=chosen, model="loop")
        answer, reply = engine.submit(request), LocalEngine(models["loop"]).generate(request)
        *_, text = answer.updates()
        assert [text] * 2 == [list(reply)[-1], folder_caption(models["loop"], chosen).caption]
        assert (text == "at" * LIMIT) == looping
        job = UploadJob(engine, [UploadedImage("a.png", blue_circles)], CaptionTask("loop", "", "en", "", chosen))
        assert list(job.run())
        marks = [
            answer.repeats,
            reply.repeats,
            job.records[0].repeats,
            folder_caption(models["loop"], chosen).repeats,
        ]
        assert marks == [looping] * 4
        assert answer.tokens == reply.tokens == LIMIT


def test_an_upload_job_has_an_error_for_a_blank_caption(engine: ThreadedEngine) -> None:
    job = UploadJob(
        engine, [UploadedImage("a.png", blue_circles)], CaptionTask("blank", "", "en", "", decoding("best"))
    )
    assert list(job.run())
    assert [(record.caption, record.error) for record in job.records] == [(None, EMPTY_ANSWER)]
    assert (job.progress.generated, len(job.progress.errors)) == (0, 1)


def test_a_worker_of_a_cluster_checks_captions_and_returns_the_mark(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(blue_circles())
    row = {"number": 0, "file": "a.png", "digest": IMAGE.digest, "tasks": [0]}
    table = pyarrow.Table.from_pydict(worker.read_files(pyarrow.Table.from_pylist([row]), tmp_path))
    results = {}
    for name, folder in folders.items():
        task = CaptionTask(name, "fp32", "en", "", decoding("stream"))
        spec = catalogue.find_model(str(folder), folders=True)
        columns = worker.Worker(spec, [task], batch_size=2, threads=1)(table)
        (found,) = pyarrow.table(columns).to_pylist()
        results[name] = worker_pool._to_caption(PendingCaption(LoadedImage("a.png", IMAGE.digest), task), found)
    assert (results["blank"].caption, results["blank"].error) == (None, EMPTY_ANSWER)
    assert (results["loop"].caption, results["loop"].repeats) == ("at" * LIMIT, True)


def test_a_replica_sends_the_mark_with_the_end_of_the_answer(folders: dict[str, Path]) -> None:
    """Its last tokens may not change the text, and then they were not sent."""
    replica = EngineReplica([catalogue.find_model(str(folders["loop"]), folders=True)], "fp32", EngineConfig())

    async def parts() -> list[PartialResponse]:
        return [part async for part in replica.answer(Request(IMAGE, options=decoding("stream")))]

    with ThreadPoolExecutor(1) as executor:  # the browser tests leave an event loop in this thread
        last = executor.submit(asyncio.run, parts()).result()[-1]
    replica._engine.stop()
    assert (last.text, last.tokens, last.repeats) == ("at" * LIMIT, LIMIT, True)
