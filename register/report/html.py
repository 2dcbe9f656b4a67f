"""HTML pages that need no other file and no network: templates, and pictures as data URLs."""

import base64
import io
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from register.report.panels import Grey, Picture, as_bytes


class Figure(NamedTuple):
    """A picture of a page: its data URL, its caption, and the text that a screen reader reads."""

    data: str
    caption: str
    alt: str


def figure(data: str, caption: str) -> Figure:
    """A picture whose caption also describes it."""
    return Figure(data, caption, caption)


@cache
def template(name: str) -> Template:
    """A template of this package. Rendering raises an error for a name that is used and not given."""
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text(name))


def text(name: str) -> str:
    """The text of a file in ``templates``; styles and scripts are inserted into a page without escaping."""
    content = (resources.files("register.report") / "templates" / name).read_text(encoding="utf-8")
    return content if name.endswith((".html", ".svg")) else Markup(content)


def jpeg_url(picture: Picture | Grey, quality: int = 80) -> str:
    """A picture as the data URL of a JPEG: bytes (h, w) or (h, w, 3), or greys (h, w) in [0, 1]."""
    pixels = picture if picture.dtype == np.uint8 else as_bytes(picture)  # type: ignore[arg-type]
    return image_url(Image.fromarray(pixels), "jpeg", quality=quality)


def png_url(picture: Picture) -> str:
    """Bytes (h, w, 3) as the data URL of a PNG, without loss."""
    return image_url(Image.fromarray(picture), "png")


def image_url(picture: Image.Image, kind: str, **options: Any) -> str:
    """A Pillow image as a data URL of a format, with the options of Pillow's writer."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return data_url(kind, out.getvalue())


def data_url(kind: str, content: bytes) -> str:
    """An image file as a data URL; ``kind`` is the subtype of its media type, such as ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
