"""A simulated exchange: a local WebSocket server that speaks the real one's protocol."""
