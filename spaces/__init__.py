"""WHAT can be built: search spaces, their cells, plans and networks."""
