"""What holds for every test."""

import os

from hypothesis import settings

# No test may depend on how busy the machine is. Continuous integration draws the same examples each
# time, so that it judges the change; runs by hand draw new ones, and so go on looking.
settings.register_profile("dlaconv", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("dlaconv")
