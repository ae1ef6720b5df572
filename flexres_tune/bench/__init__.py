"""What `python -m flexres_tune.bench` measures: training, the driver of a sweep, the tables, and packing."""
