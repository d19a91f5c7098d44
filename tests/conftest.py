"""What holds for every test."""

from hypothesis import settings

# No test may depend on how busy the machine is.
settings.register_profile("dlaconv", deadline=None)
settings.load_profile("dlaconv")
