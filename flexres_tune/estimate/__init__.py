"""How long a sweep will take, and what it will cost, before it runs."""
