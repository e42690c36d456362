"""Pure tensor functions: no configuration, no registries, no state."""
