"""Scenes that need no download: generated with their masks and attributes."""
