"""Where oracle calls run. Anything with ``submit(fn, *args) -> Future`` will do; these three are ready to use."""
