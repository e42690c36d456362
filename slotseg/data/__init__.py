"""Data: sets and their registration, reading, mapping and loading."""
