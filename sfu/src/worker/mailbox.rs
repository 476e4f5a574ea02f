//! Worker: mailbox.
