"""Images as a user would send them: drawn with Pillow, not by the code of the training data."""

import io
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw


def blue_circles(count: int = 3, size: tuple[int, int] = (400, 200)) -> bytes:
    """A PNG of that many plain blue circles in a row on white."""
    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    step, radius = size[0] / count, min(size[0] / count, size[1]) * 0.32
    for index in range(count):
        x, y = step * (index + 0.5), size[1] / 2
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill="blue")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_zip(file: Path, count: int = 20, **others: bytes) -> Path:
    """A zip of `count` images, each ten pixels wider than the last, and of other files."""
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.png", blue_circles(2, size=(400 + 10 * number, 200)))
        for name, data in others.items():
            archive.writestr(name, data)
    return file
