"""WHAT it means: statistics, plots, tables and the HTML page."""
