from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is slow at times: that says nothing about the code. The same examples every time.
settings.register_profile(
    "steady", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
