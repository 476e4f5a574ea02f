//! All peers and tracks of one worker, and the fan-out between them.
