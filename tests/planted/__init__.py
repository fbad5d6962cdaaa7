"""Bugs planted one at a time in the code that is shipped, to prove that the simulator and its checker find them."""
