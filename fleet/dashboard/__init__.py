"""The live dashboard: one page that a WebSocket fills."""
