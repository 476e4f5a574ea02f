//! The key table, and configuration texts read against it.
//!
//! Owns which keys exist and what type each has. A value read here has the right type and a known
//! place; whether the values make sense together is for `check`. `settings` calls it, one source
//! after the other, the weakest first.

pub mod key;
pub mod value;
pub mod nearest;
pub mod yaml;
pub mod table;
pub mod read;

pub use key::{Key, Kind, Status};
pub use read::{Values, set_text};
pub use value::{Record, Value};
