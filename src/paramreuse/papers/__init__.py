"""The protocol of the two papers: its arms, its figures and tables, and whether its claims hold."""
