//! Signal: session.
