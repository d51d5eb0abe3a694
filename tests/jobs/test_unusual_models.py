"""Models that write nothing but blanks, or one word for ever, through every way by which answers are written.

The cases blank-caption and caption-that-repeats: a greedy folder job on the first turned for ever, a batch and a search
took its blanks for captions, `ask` printed an empty line; nothing noticed the second.
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

PICTURE = images.decode(blue_circles())
QUALITIES = ("stream", "best")
LIMIT = 12


def options(quality: str, **changes: Any) -> GenerationOptions:
    return check(quality=quality, max_new_tokens=LIMIT, **changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two checkpoints."""
    root = tmp_path_factory.mktemp("models")
    return {"blank": write_constant(root / "blank", SPACE), "loop": write_constant(root / "loop", "at")}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        name: loader.load_model(catalogue.find_model(str(folder), folders=True), "fp32")
        for name, folder in folders.items()
    }


@pytest.fixture
def engine(loaded: dict[str, Any]) -> Iterator[ThreadedEngine]:
    """Offers both."""
    made = ThreadedEngine(
        [model.spec for model in loaded.values()],
        load=lambda spec, *_: loaded[spec.name],
        load_preparation=lambda spec: loaded[spec.name].preparation,
    )
    made.start()
    yield made
    made.stop()


def written(model: Any, chosen: GenerationOptions) -> Caption:
    captioner = Captioner(model, batch_size=4)
    seen = LoadedImage("a.png", PICTURE.digest, prepared=captioner.prepare(PICTURE.pixels))
    (one,) = [*captioner.add([PendingCaption(seen, CaptionTask("m", "fp32", "en", "", chosen))]), *captioner.finish()]
    return one


@pytest.mark.timeout(60)
@pytest.mark.parametrize("quality", QUALITIES)
def test_a_folder_whose_captions_are_blank_ends_with_an_error_for_each_picture(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], quality: str
) -> None:
    """Greedy, it never ended: the blank was taken for a caption that is not whole yet."""
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
def test_ask_tells_a_blank_answer_in_one_line_and_exits_1(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], quality: str
) -> None:
    (tmp_path / "a.png").write_bytes(blue_circles())
    command = ["ask", str(tmp_path / "a.png"), "What is it?", "--quality", quality, "--max-new-tokens", "4"]
    assert cli.main([*command, "--model", str(folders["blank"])]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"blip-space: {EMPTY_ANSWER}"


@pytest.mark.parametrize("quality", QUALITIES)
def test_every_driver_of_the_engine_ends_a_blank_answer_with_the_error(
    engine: ThreadedEngine, loaded: dict[str, Any], quality: str
) -> None:
    request = Request(PICTURE, "What is it?", options=options(quality), model="blank")
    with pytest.raises(EmptyAnswerError, match="empty answer for this image"):
        list(engine.submit(request).updates(0.01))
    with pytest.raises(EmptyAnswerError, match="empty answer for this image"):
        list(LocalEngine(loaded["blank"]).generate(request))


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_caption_cut_off_in_a_loop_is_marked_wherever_it_is_written(
    engine: ThreadedEngine, loaded: dict[str, Any], quality: str
) -> None:
    """A penalty is the way out of it, in a search as well."""
    for changes, looping in (({}, True), ({"repetition_penalty": 2.0}, False)):
        chosen = options(quality, **changes)
        request = Request(PICTURE, options=chosen, model="loop")
        answer, reply = engine.submit(request), LocalEngine(loaded["loop"]).generate(request)
        *_, text = answer.updates()
        assert [text] * 2 == [list(reply)[-1], written(loaded["loop"], chosen).caption]
        assert (text == "at" * LIMIT) == looping
        batch = UploadJob(engine, [UploadedImage("a.png", blue_circles)], CaptionTask("loop", "", "en", "", chosen))
        assert list(batch.run())
        marks = [answer.repeats, reply.repeats, batch.records[0].repeats, written(loaded["loop"], chosen).repeats]
        assert marks == [looping] * 4
        assert answer.tokens == reply.tokens == LIMIT


def test_a_batch_has_an_error_for_a_blank_caption_and_counts_it(engine: ThreadedEngine) -> None:
    batch = UploadJob(
        engine, [UploadedImage("a.png", blue_circles)], CaptionTask("blank", "", "en", "", options("best"))
    )
    assert list(batch.run())
    assert [(record.caption, record.error) for record in batch.records] == [(None, EMPTY_ANSWER)]
    assert (batch.progress.generated, len(batch.progress.errors)) == (0, 1)


def test_a_worker_of_a_cluster_judges_as_well_and_the_mark_comes_back(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(blue_circles())
    row = {"number": 0, "file": "a.png", "digest": PICTURE.digest, "tasks": [0]}
    table = pyarrow.Table.from_pydict(worker.read_files(pyarrow.Table.from_pylist([row]), tmp_path))
    came = {}
    for name, folder in folders.items():
        task = CaptionTask(name, "fp32", "en", "", options("stream"))
        spec = catalogue.find_model(str(folder), folders=True)
        columns = worker.Worker(spec, [task], batch_size=2, threads=1)(table)
        (found,) = pyarrow.table(columns).to_pylist()
        came[name] = worker_pool._to_caption(PendingCaption(LoadedImage("a.png", PICTURE.digest), task), found)
    assert (came["blank"].caption, came["blank"].error) == (None, EMPTY_ANSWER)
    assert (came["loop"].caption, came["loop"].repeats) == ("at" * LIMIT, True)


def test_a_replica_tells_the_mark_with_the_end_of_the_answer(folders: dict[str, Path]) -> None:
    """Its last tokens may change no text, and then nothing was told of them."""
    replica = EngineReplica([catalogue.find_model(str(folders["loop"]), folders=True)], "fp32", EngineConfig())

    async def told() -> list[PartialResponse]:
        return [part async for part in replica.answer(Request(PICTURE, options=options("stream")))]

    with ThreadPoolExecutor(1) as aside:  # the browser tests leave this thread with a loop of their own
        last = aside.submit(asyncio.run, told()).result()[-1]
    replica._engine.stop()
    assert (last.text, last.tokens, last.repeats) == ("at" * LIMIT, LIMIT, True)
