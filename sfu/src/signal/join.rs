//! Signal: join.
