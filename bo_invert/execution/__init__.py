"""Where oracle calls run. Anything with ``submit(fn, *args) -> Future`` will do; these are ready to use."""
