//! Header extensions by URI: elements, audio level, transport-wide sequence, mid and rid.
