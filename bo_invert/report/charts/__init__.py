"""Charts of a study: plain data of each plot, and renderers for Plotly and matplotlib."""
