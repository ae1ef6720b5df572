"""The keys of a sweep file that hold mappings: each is frozen data that checks itself."""
