"""Pictures as a visitor would send them: drawn with Pillow, not by the code that the model was trained with."""

import io

from PIL import Image, ImageDraw


def blue_circles(count: int = 3, size: tuple[int, int] = (400, 200)) -> bytes:
    """A PNG of that many plain blue circles in a row on white."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    step, radius = size[0] / count, min(size[0] / count, size[1]) * 0.32
    for place in range(count):
        x, y = step * (place + 0.5), size[1] / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="blue")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
