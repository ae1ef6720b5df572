"""The Python interface: run a sweep, and ask the sweeps of a results folder. `import flexres_tune` offers its names."""
