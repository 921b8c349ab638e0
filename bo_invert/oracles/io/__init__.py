"""Input and output formats of external oracles: JSON, HTTP, templates, parsers."""
