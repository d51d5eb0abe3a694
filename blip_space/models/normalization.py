"""Normalizes pixels: a vision encoder takes floats, and images are kept and sent to a GPU as bytes, a quarter of that.

A byte has 256 values, so the float of each is computed once, as the image processor does it, and then looked up. The
result is the same on every device. Depends on torch only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

VALUES = 256


class Normalization:
    """The float of every value of a byte, for each colour channel."""

    def __init__(self, table: torch.Tensor) -> None:
        """`table` is float32 (channels, 256), on the CPU."""
        self.table = table
        self._tables: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}
        """The table as one dimension, and where each channel (channels, 1, 1) begins in it, by device and dtype."""

    @classmethod
    def from_statistics(cls, mean: Sequence[float], std: Sequence[float]) -> Normalization:
        """Values from 0 to 1, minus the mean of each channel, divided by its deviation, all in float32."""
        values = np.arange(VALUES, dtype=np.float32)[None] / 255
        table = (values - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
        return cls(torch.from_numpy(table))

    def apply(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Bytes (n, channels, height, width) as floats of that shape, on the same device. Only the first call for a
        device makes the host wait for it."""
        table, starts = self._on_device(pixels.device, dtype)
        return table.index_select(0, (pixels.int() + starts).flatten()).view(pixels.shape)

    def _on_device(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        if (device, dtype) not in self._tables:
            starts = torch.arange(0, self.table.numel(), VALUES, dtype=torch.int32)
            self._tables[device, dtype] = (
                self.table.flatten().to(device, dtype),
                starts[:, None, None].to(device),
            )
        return self._tables[device, dtype]
