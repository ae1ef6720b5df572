"""How sure a number is: intervals of means and differences, and which configurations may be the best. Reads no tables."""
