"""What holds for every test."""

import os
import zlib

import numpy as np
import pytest
from hypothesis import settings

# No test may depend on how busy the machine is. Continuous integration draws the same examples each
# time, so that it judges the change; runs by hand draw new ones, and so go on looking.
settings.register_profile("dlaconv", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("dlaconv")


@pytest.fixture(autouse=True)
def _own_numbers(request):
    """A module's RNG starts anew for each test, whatever ran before it in the same process."""
    if isinstance(getattr(request.module, "RNG", None), np.random.Generator):
        request.module.RNG = np.random.default_rng(zlib.crc32(request.node.name.encode()))
