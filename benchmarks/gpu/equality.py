"""Each family in both layouts, in fp32 on the device, against transformers there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import devices, exactness
from benchmarks.gpu.setup import Row, Section, Setup
from blip_space.catalogue import read_folder


def equality(setup: Setup) -> Iterator[Row]:
    """Requests that arrive at random; raises at the end if an answer or its logits differ."""
    different = []
    with tempfile.TemporaryDirectory() as folder:
        for name, write in exactness.CHECKPOINTS.items():
            model = devices.load_model(read_folder(write(Path(folder) / name)), "fp32", setup.device)
            for layout, slots in (("left-aligned", False), ("slots", True)):
                result = exactness.compare(model, slots=slots, requests=setup.sizes.requests, seed=0, runs=2)
                if not result.is_exact:
                    different.append(f"{name} in {layout}")
                yield {
                    "family": name,
                    "layout": layout,
                    "equal": f"{sum(result.equal.values())} of {sum(result.total.values())}",
                    "logits differ by": f"{result.difference:.1e}",
                    "transformers' rounding": f"{result.rounding:.1e}",
                    "largest logit": result.largest,
                    "decoding": result.decoding,
                }
    if different:
        raise RuntimeError(f"not what transformers answers: {', '.join(different)}")


SECTIONS = (Section("equality", "Equality with transformers, fp32", equality),)
