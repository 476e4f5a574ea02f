//! Signal frames: protobuf and JSON, and the join request in the URL.
