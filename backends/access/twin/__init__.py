"""Models that stand beside an ACCESS file: a standard QDQ twin, and the simulation as a graph.

Both take and return the source's real values, whatever units the hardware keeps inside.
"""
