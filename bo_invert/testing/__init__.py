"""Conformance tests of a storage, for third parties too. They need pytest and hypothesis.

::

    from bo_invert.testing import StudyConformance

    class TestMyStore(StudyConformance):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStore(tmp_path)  # anything that Study.create takes as its storage
"""

from bo_invert.testing.conformance import NAMES, StudyConformance
from bo_invert.testing.state_machine import consistent, problem

__all__ = ["NAMES", "StudyConformance", "consistent", "problem"]
