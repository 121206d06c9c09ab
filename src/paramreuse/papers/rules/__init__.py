"""The rules by which the papers' claims are judged, each with the numbers that it rests on."""
