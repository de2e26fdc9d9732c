"""Side-by-side measurements; each script prints one table and writes JSON."""
