"""The door for browsers and programs: live sessions over HTTP, WebSocket and WebRTC."""
