//! The send arena: packets sealed into it, grouped by destination into runs.
