"""What each operator of the hardware computes, in exact rationals with one rounding.

One function per row of the table in ``docs/simulator.md``; `dlaconv.backends.access.reference` and
the tests run them, the simulator's engine is proven equal to them.
"""
