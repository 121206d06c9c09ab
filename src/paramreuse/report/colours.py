"""Colours that colour-blind readers can distinguish.

Source: Okabe and Ito (2008), "Color Universal Design".
"""

from paramreuse.reuse.verdict_map import GLYPHS

BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
YELLOW = "#F0E442"
GREY = "#8A8F98"

CLASS_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Colours of foreground classes, of sources and of strategies, in order; they repeat."""

VERDICT_COLOURS = {
    "reusable": GREEN,
    "identical": SKY,
    "indifferent": YELLOW,
    "undecided": GREY,
    "too few subjects": GREY,
    "not reusable": VERMILLION,
    "not finite": PURPLE,
}

VERDICT_GLYPHS = GLYPHS
