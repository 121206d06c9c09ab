"""The rules by which the papers' claims are judged, each with the numbers that it rests on.

In: what the arms measured.
Out: findings, with the estimates behind them.
"""
