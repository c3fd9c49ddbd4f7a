"""Pieces of the page: sections, drawings, tables, numbers. Texts are HTML: escape what comes from a stream."""

from collections.abc import Iterable, Sequence


def section(title: str, text: str, body: str) -> str:
    """A part of the page under a heading."""
    return f"<section>\n<h2>{title}</h2>\n" + (f"<p>{text}</p>\n" if text else "") + body + "\n</section>"


def drawings(*drawn: tuple[str, str]) -> str:
    """Drawings side by side, each with its caption."""
    inner = "".join(
        f"<figure>{svg}" + (f"<figcaption>{caption}</figcaption>" if caption else "") + "</figure>"
        for svg, caption in drawn
    )
    return f'<div class="figures">{inner}</div>'


def key(style: str, text: str) -> str:
    """What a colour means."""
    return f'<span class="key" style="--color: var(--{style})">{text}</span> '


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: tuple[int, ...]) -> str:
    """A table whose columns are numbers, but those named by their place."""

    def cell(tag: str, index: int, content: str) -> str:
        style = "" if index in text_columns else ' class="number"'
        return f"<{tag}{style}>{content}</{tag}>"

    head = "".join(cell("th", index, title) for index, title in enumerate(titles))
    body = "".join(
        "<tr>" + "".join(cell("td", index, content) for index, content in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: float | None, unit: float = 1.0) -> str:
    """Three significant digits; a dash where nothing is known."""
    return "–" if value is None else f"{value * unit:#.3g}".rstrip(".")
