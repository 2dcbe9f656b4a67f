"""What mkdocs runs while it builds the site: generated pages, included files, formulas as MathML.

Nothing here needs a network, and no page loads anything from another server.
"""

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from docs import generate  # noqa: E402

INCLUDE = re.compile(r"<!-- include: (?P<path>\S+) -->")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
EXTRA = {"contributing.md": "CONTRIBUTING.md"}
"""Pages of the site that lie elsewhere in the repository."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are generated from the code, and those that lie elsewhere."""
    made = generate.pages() | {page: f"<!-- include: {source} -->\n" for page, source in EXTRA.items()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put in the files that a page includes."""
    has_title = markdown.startswith("# ")
    return INCLUDE.sub(lambda match: included(match["path"], page.file.src_uri, has_title), markdown)


def included(path: str, page: str, has_title: bool) -> str:
    """The Markdown of a file of the repository, with links that hold on the site.

    Its title is left out if the page has one.
    """
    file = ROOT / path
    if not file.exists():
        return f"`{path}` was not there when this site was built."
    text = file.read_text(encoding="utf-8")
    if has_title and text.startswith("# "):
        text = text.partition("\n")[2]
    return LINK.sub(lambda match: _link(match, file.parent, page), text)


def _link(match: re.Match[str], folder: Path, page: str) -> str:
    """A link of an included file for the site: to a page, or the path of what is not on the site."""
    target, _, anchor = match["target"].partition("#")
    if not target or "://" in target or target.startswith("mailto:"):
        return match[0]
    found = (folder / target).resolve()
    docs = ROOT / "docs"
    moved = {(ROOT / source).resolve(): name for name, source in EXTRA.items()}
    if found.is_relative_to(docs):
        name = found.relative_to(docs).as_posix()
    elif found in moved:
        name = moved[found]
    else:
        return f"{match['text']} (`{found.relative_to(ROOT).as_posix()}`)" if found.exists() else match[0]
    steps = "../" * page.count("/")
    return f"{match['image']}[{match['text']}]({steps}{name}{'#' + anchor if anchor else ''})"


def on_page_content(html_text: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw without a library."""
    return FORMULA.sub(_formula, html_text)


def _formula(match: re.Match[str]) -> str:
    block = match["tag"] == "div"
    drawn = convert(html.unescape(match["latex"]).strip(), display="block" if block else "inline")
    return f'<{match["tag"]} class="arithmatex">{drawn}</{match["tag"]}>'
