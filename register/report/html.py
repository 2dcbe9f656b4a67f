"""Pages that ask for nothing outside themselves: templates, and pictures as data addresses."""

import base64
import io
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from register.report.panels import Grey, Picture, as_bytes


@cache
def template(name: str) -> Any:
    """A template of this package; a name it uses and is not given is an error."""
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text(name))


def text(name: str) -> Any:
    """A file that ships beside the templates; style and script go into the page as they are."""
    content = (resources.files("register.report") / "templates" / name).read_text(encoding="utf-8")
    return content if name.endswith((".html", ".svg")) else Markup(content)


def address(picture: Picture | Grey | Image.Image, quality: int = 80) -> str:
    """A picture as a data address: JPEG of bytes (h, w) or (h, w, 3), or of greys (h, w) in [0, 1]."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture if picture.dtype == np.uint8 else as_bytes(picture))  # type: ignore[arg-type]
    return _address(picture, "jpeg", quality=quality)


def exact_address(picture: Picture) -> str:
    """The bytes (h, w, 3) of a picture as a data address that loses nothing."""
    return _address(Image.fromarray(picture), "png")


def _address(picture: Image.Image, kind: str, **options: Any) -> str:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return data_address(kind, out.getvalue())


def data_address(kind: str, content: bytes) -> str:
    """The bytes of a picture of some kind, as media types name it, as a data address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
