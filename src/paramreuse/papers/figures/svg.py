"""matplotlib's SVG made small, the same bytes each time, and fit to stand in a page.

Text stays paths, so no font is needed. Styles become attributes, which a page that forbids inline
styles still shows, and the names of parts begin with the figure's, so that figures do not clash.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from paramreuse.plain_text import plain_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_COORDINATE = re.compile(r"-?\d+\.\d{2,}")
_MOVED = re.compile(r"translate\((\S+) 0\)")
_NAMED = re.compile(r"url\(#([^)]+)\)")


def svg_text(figure: "Figure", name: str) -> str:
    """Return a figure as SVG.

    Args:
        figure: What to write.
        name: Name of the figure, of letters, digits and ``-``; names of its parts begin with it, so
            a short one makes a small file.
    """
    from matplotlib import rc_context

    buffer = BytesIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        plain_figure(figure).savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - what matplotlib just wrote
    _leave_out_what_is_not_drawn(root)
    for element in root.iter():
        _shorten(element)
    _rename(root, name)
    _flatten(root, {})
    root.attrib.update({"stroke-linejoin": "round", "stroke-linecap": "butt"})
    return _written(root) + "\n"


def _leave_out_what_is_not_drawn(root: Element) -> None:
    """Drop the description, and the style sheet, which says what the root's attributes will."""
    for child in list(root):
        styles = child.find(f"{{{_SVG}}}style")
        if child.tag == f"{{{_SVG}}}metadata" or styles is not None:
            root.remove(child)


def _shorten(element: Element) -> None:
    """Say in few letters where an element is, and in attributes what it looks like."""
    attributes = element.attrib
    element.text = element.tail = None
    for part in filter(str.strip, attributes.pop("style", "").split(";")):
        key, value = part.split(":", 1)
        attributes[key.strip()] = value.strip()
    if "d" in attributes:
        attributes["d"] = re.sub(r"\s*([MLQCz])\s*", r"\1", _rounded(attributes["d"]))
    for key in {"x", "y"} & set(attributes):
        attributes[key] = _rounded(attributes[key])
    if "transform" in attributes:
        places = re.sub(r"translate\([^)]*\)", lambda m: _rounded(m[0]), attributes["transform"])
        attributes["transform"] = places
        moved = _MOVED.fullmatch(places)
        if moved and element.tag == f"{{{_SVG}}}use" and "x" not in attributes:
            attributes["x"] = moved[1]
            del attributes["transform"]
    if _XLINK in attributes:
        attributes["href"] = attributes.pop(_XLINK)


def _rounded(text: str) -> str:
    """Round coordinates to a tenth of a point."""
    return _COORDINATE.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), text)


def _rename(root: Element, name: str) -> None:
    """Name only what is referred to, in the order of appearance."""
    short: dict[str, str] = {}
    for element in root.iter():
        for key, value in element.attrib.items():
            names = [value[1:]] if key == "href" else _NAMED.findall(value)
            for old in names:
                new = short.setdefault(old, f"{name}-{len(short)}")
                element.set(key, value.replace(f"#{old}", f"#{new}"))
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in short:
            element.set("id", short[old])


def _flatten(element: Element, markers: dict[frozenset[tuple[str, str]], str]) -> None:
    """Take groups that say nothing away, and draw the markers of a curve with one path.

    Args:
        element: Where.
        markers: Names of the markers made so far, by what they look like.
    """
    for child in element:
        _flatten(child, markers)
    element[:] = list(_without_bare_groups(element))
    look = _look_of_markers(element)
    if look is None:
        return
    path = _path_through(element)
    known = frozenset(look.items())
    name = markers.get(known)
    element[:] = [path]
    if name is None:
        name = markers[known] = f"{look['href'].removeprefix('#')}m{len(markers)}"
        element.insert(0, _marker(name, look))
    for place in ("start", "mid", "end"):
        path.set(f"marker-{place}", f"url(#{name})")


def _look_of_markers(element: Element) -> dict[str, str] | None:
    """Return what all parts of a curve look like; None where they are not equal markers."""
    looks = [{k: v for k, v in child.items() if k not in ("x", "y")} for child in element]
    alike = len(looks) > 1 and looks.count(looks[0]) == len(looks)
    placed = all({"x", "y"} <= child.attrib.keys() for child in element)
    return looks[0] if alike and placed and "href" in looks[0] else None


def _without_bare_groups(element: Element) -> Iterator[Element]:
    for child in element:
        if child.tag == f"{{{_SVG}}}g" and not child.attrib:
            yield from child
        else:
            yield child


def _path_through(places: Element) -> Element:
    points = "L".join(f"{place.get('x')} {place.get('y')}" for place in places)
    return Element(f"{{{_SVG}}}path", fill="none", d=f"M{points}")


def _marker(name: str, look: dict[str, str]) -> Element:
    marker = Element(f"{{{_SVG}}}marker")
    marker.attrib.update(id=name, overflow="visible", markerUnits="userSpaceOnUse")
    marker.append(Element(f"{{{_SVG}}}use", look))
    return marker


def _written(root: Element) -> str:
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    root.set("xmlns", _SVG)
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")
