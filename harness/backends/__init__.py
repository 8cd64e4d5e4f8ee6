"""Run plans: the inputs of all counted ReLUs, as codes, on one device."""
