//! Signal: outbox.
