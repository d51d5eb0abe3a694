"""Decode steps against the time that reading the weights takes, prefills, images, and the engine's own time."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import devices, engine, random_weights
from benchmarks.baseline import make_image
from benchmarks.gpu.setup import BLOOM, LONG_QUESTION, MT0, OPT, Row, Section, Setup, never_stop
from blip_space.catalogue import read_folder
from blip_space.errors import UserError
from blip_space.loading.library_logging import silenced
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions


def decode_steps(setup: Setup) -> Iterator[Row]:
    """The two shapes that have targets."""
    yield from _steps(setup, (OPT, MT0))


def more_steps(setup: Setup) -> Iterator[Row]:
    """Another family."""
    yield from _steps(setup, (BLOOM,))


def other_steps(setup: Setup) -> Iterator[Row]:
    """The same without what makes them fast: by transformers' forward in graphs, and eagerly."""
    for variable in ("BLIP_SPACE_FUSED", "BLIP_SPACE_GRAPHS"):
        with devices.turned_off(variable):
            for row in _steps(setup, (OPT, MT0)):
                yield {"without": variable} | row


def _steps(setup: Setup, names: tuple[str, ...]) -> Iterator[Row]:
    bandwidth = read_bandwidth(setup)["best"]
    for name in names:
        hf_model, _, model = setup.model(name)
        for rows in setup.sizes.rows:
            yield {"model": name} | time_steps(setup, hf_model, model, rows, bandwidth)


def time_steps(setup: Setup, hf_model: Any, model: VisionLanguageModel, rows: int, bandwidth: float) -> Row:
    """The decode steps of that many answers: twice to warm up and capture, once to measure the steps, and once to
    measure what of them is not the forward pass, which waits for it."""
    options, bound = GenerationOptions(max_new_tokens=setup.sizes.tokens), 1000 * step_bytes(hf_model) / bandwidth
    core = engine.new_core(model, rows, slots=True)
    for _ in range(2):
        engine.measure_core(core, options, rows, question=LONG_QUESTION)
    timing, parts = (
        engine.measure_core(core, options, rows, question=LONG_QUESTION, time_forward=time_forward)
        for time_forward in (False, True)
    )
    return {
        "rows": rows,
        "decoding": devices.decoding(core),
        "step, ms": timing.step_ms,
        "slowest, ms": timing.slowest_ms,
        "engine, ms": parts.own_ms,
        "bound, ms": bound,
        "step / bound": timing.step_ms / bound,
        "tokens/s": timing.tokens_per_second,
        "allocated, GB": setup.allocated_gb(),
    }


def step_bytes(hf_model: Any) -> int:
    """The bytes of the weights that one step reads: the decoder's layers and the head. Of the embeddings a step reads
    one row for each token, unless they are the head."""
    language_model = hf_model.language_model
    is_encoder_decoder = language_model.config.is_encoder_decoder
    body = language_model.decoder if is_encoder_decoder else language_model.base_model
    weights = {id(weight): weight for weight in body.parameters()}
    for weight in language_model.get_input_embeddings().parameters():
        weights.pop(id(weight), None)
    weights |= {id(weight): weight for weight in language_model.get_output_embeddings().parameters()}
    return sum(weight.nbytes for weight in weights.values())


def bandwidth(setup: Setup) -> Iterator[Row]:
    """What the bounds rest on."""
    yield {f"{name}, GB/s": rate / 1e9 for name, rate in read_bandwidth(setup).items()}


@lru_cache
def read_bandwidth(setup: Setup) -> dict[str, float]:
    """Bytes a second that the device reads in a product of a large matrix with one row, in a sum, and in the best of
    both."""
    columns, dtype = 1 << 11, torch.bfloat16 if setup.device.startswith("cuda") else torch.float32
    matrix = torch.ones(setup.sizes.bandwidth_bytes // (columns * dtype.itemsize), columns, dtype=dtype).to(
        setup.device
    )
    vector = torch.ones(columns, dtype=dtype, device=setup.device)
    kinds: dict[str, Callable[[], Any]] = {"product": lambda: matrix @ vector, "sum": matrix.sum}
    rates = {
        name: matrix.nbytes / median_seconds(function, setup.sizes.repeats, setup.device)
        for name, function in kinds.items()
    }
    return rates | {"best": max(rates.values())}


@torch.inference_mode()
def median_seconds(function: Callable[[], Any], repeats: int, device: str) -> float:
    """The median time of a call, after three to warm up, each until the device has finished."""
    seconds = []
    for number in range(3 + repeats):
        started = time.perf_counter()
        function()
        devices.synchronize(device)
        if number >= 3:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def precisions(setup: Setup) -> Iterator[Row]:
    """OPT-2.7B through the loader in each precision."""
    bandwidth = read_bandwidth(setup)["best"]
    setup.free()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / OPT
        random_weights.save(OPT, folder, device=setup.device, small=setup.is_dry_run)
        setup.free()
        for precision in setup.sizes.precisions:
            yield {"precision": precision} | _measure_precision(setup, folder, precision, bandwidth)
            setup.free()


def _measure_precision(setup: Setup, folder: Path, precision: str, bandwidth: float) -> Row:
    row: Row = dict.fromkeys(("load, s", "weights, GB", *(f"{rows} rows, ms" for rows in setup.sizes.rows[:2])))
    row |= {"bound, ms": None, "decoding": ""}
    started = time.monotonic()
    try:
        model = devices.load_model(read_folder(folder), precision, setup.device)
    except UserError as error:
        return row | {"decoding": f"does not load: {error}"}
    row |= {"load, s": time.monotonic() - started, "weights, GB": model.nbytes / 1e9}
    row["bound, ms"] = 1000 * step_bytes(model._hf_model) / bandwidth
    never_stop(model._hf_model, model)
    with silenced() if model.precision.is_quantized else nullcontext():  # a line for each layer in each step
        for rows in setup.sizes.rows[:2]:
            timed = time_steps(setup, model._hf_model, model, rows, bandwidth)
            row |= {f"{rows} rows, ms": timed["step, ms"], "decoding": timed["decoding"]}
    return row


def pictures(setup: Setup) -> Iterator[Row]:
    """Images: resized on the CPU by one thread, then encoded on the device."""
    _, _, model = setup.model(OPT)
    core = engine.new_core(model, 1, slots=True)
    devices.capture_graphs(core)
    options = GenerationOptions()
    for count in setup.sizes.pictures:
        images = [make_image(number, side=640).pixels for number in range(count)]
        pixels = [model.preparation.pixels(image, options) for image in images]
        resizing = (partial(model.preparation.pixels, image, options) for image in images)
        resize = sum(median_seconds(function, 1, "cpu") for function in resizing)
        encode, captured = (
            median_seconds(partial(function, pixels), setup.sizes.repeats // 2, setup.device)
            for function in (model.encode_images, core._runner._images.encode)
        )
        yield {
            "pictures": count,
            "resize, ms": 1000 * resize,
            "eager, ms": 1000 * encode,
            "engine, ms": 1000 * captured,
            "encoded/s": count / captured,
        }


def first_tokens(setup: Setup) -> Iterator[Row]:
    """How long the first tokens of requests take that arrive together: with new images, and with known ones."""
    for name in (OPT, MT0):
        _, _, model = setup.model(name)
        for rows in setup.sizes.rows:
            core = engine.new_core(model, rows, slots=True)
            _first_tokens(core, rows)  # to warm up; the images are in the cache afterwards
            devices.capture_graphs(core)
            known = _first_tokens(core, rows)
            core._runner.clear_caches()
            new = _first_tokens(core, rows)
            yield {"model": name, "requests": rows, "new images, ms": 1000 * new, "known images, ms": 1000 * known}


def _first_tokens(core: Any, rows: int) -> float:
    """The seconds until each of the requests has one token."""
    requests = engine.prepare_requests(core.model, GenerationOptions(max_new_tokens=1), rows, LONG_QUESTION)
    devices.synchronize(core.model.decoder.device)
    started = time.perf_counter()
    for request in requests:
        core.add(request)
    while core.has_work:
        for output in core.step(time.monotonic()):
            if output.error is not None:
                raise output.error
    return time.perf_counter() - started


def sampling(setup: Setup) -> Iterator[Row]:
    """What choosing a token costs beside the forward pass."""
    _, _, model = setup.model(OPT)
    rows = setup.sizes.rows[1]
    kinds: dict[str, dict[str, Any]] = {
        "greedy": {},
        "sampled": {"temperature": 1.0, "top_p": 0.9},
        "sampled, penalty 1.2": {"temperature": 1.0, "top_p": 0.9, "repetition_penalty": 1.2},
    }
    for name, changes in kinds.items():
        options = setup.options(setup.sizes.tokens, **changes)
        engine.measure(model, options, rows, slots=True)
        timing = engine.measure(model, options, rows, slots=True)
        yield {
            "decoding": name,
            "rows": rows,
            "step, ms": timing.step_ms,
            "forward, ms": timing.forward_ms,
            "engine, ms": timing.own_ms,
        }


SECTIONS = (
    Section("bandwidth", "How fast the device reads", bandwidth),
    Section("steps", "Decode steps of the engine against the bound", decode_steps),
    Section("precisions", "OPT-2.7B through the loader, by precision", precisions),
    Section("pictures", "Images: ViT, Q-Former and projection", pictures),
    Section("first-tokens", "First tokens of requests that arrive together", first_tokens),
    Section("sampling", "Choosing tokens", sampling),
    Section("more-steps", "Decode steps of BLOOMZ-7B against the bound", more_steps),
    Section("other-steps", "Decode steps without fused kernels, and without graphs", other_steps),
)
