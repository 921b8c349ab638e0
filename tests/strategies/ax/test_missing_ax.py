import sys

import pytest

from bo_invert.errors import MissingExtraError
from bo_invert.strategies.base import from_spec


def test_a_missing_package_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("bo_invert.strategies.ax")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bo-invert\[ax\]'"):
        from_spec("ax")
