"""What `python -m flexres_tune.bench` measures: a trial, the sweep round it, the tables, and packing."""
