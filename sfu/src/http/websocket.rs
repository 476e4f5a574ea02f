//! Http: websocket.
